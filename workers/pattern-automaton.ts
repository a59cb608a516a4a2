/** Finds many patterns in one pass over bytes (Aho and Corasick), in time that does not grow with their number or likeness. */

/**
 * State 0 is the root: nothing of any pattern has been seen. States are numbered by depth. The next state of a shallow one (below
 * `shallow`) stands in `table` at `state * width + kinds[byte]`: a look-up that the loops over output do themselves, since each
 * byte takes one. Deep states are rarely reached, and are asked by `next`.
 */
export interface Automaton {
  /** Of the longest pattern, in bytes. */
  readonly lengthMax: number;
  readonly shallow: number;
  readonly width: number;
  readonly table: Int32Array;
  /** Bytes that occur in no pattern are all of kind 0. */
  readonly kinds: Uint8Array;
  /** Whether a byte begins a pattern. */
  readonly begins: Uint8Array;
  /** How much of a pattern a state has seen. */
  readonly depth: Int32Array;
  /** The length of the longest pattern that ends in a state; 0 for none. */
  readonly ending: Int32Array;
  next(state: number, byte: number): number;
}

/** Enough for every state of some dozen usual secrets; beyond, the table would not fit a processor's cache. */
const TABLE_STATES_MAX = 4096;

/** The edges of the tree: almost every state has one, which stands in the arrays; further ones lie in the map. */
interface Tree {
  edgeByte: Int16Array;
  edgeTo: Int32Array;
  branches: Map<number, number>;
}

export function buildAutomaton(patterns: readonly Buffer[]): Automaton {
  const { tree, depth, ending } = plantTree(patterns);
  const fallback = linkFallbacks(tree, depth, ending);
  const kinds = new Uint8Array(256);
  let width = 1;
  for (const byte of new Set(patterns.flatMap((pattern) => [...new Set(pattern)]))) {
    // With all 256 the last shares kind 255 with nobody, as none is left for kind 0.
    kinds[byte] = width % 256;
    width += 1;
  }
  const shallow = Math.min(depth.length, TABLE_STATES_MAX);
  const table = new Int32Array(shallow * width);
  const begins = new Uint8Array(256);
  for (let byte = 0; byte < 256; byte += 1) {
    const kind = kinds[byte] as number;
    for (let state = 0; state < shallow && (kind !== 0 || width > 256); state += 1)
      table[state * width + kind] = step(tree, fallback, state, byte);
    begins[byte] = child(tree, 0, byte) < 0 ? 0 : 1;
  }
  return {
    lengthMax: patterns.reduce((most, pattern) => Math.max(most, pattern.length), 0),
    shallow,
    width,
    table,
    kinds,
    begins,
    depth,
    ending,
    next: (state, byte) =>
      state < shallow ? (table[state * width + (kinds[byte] as number)] as number) : step(tree, fallback, state, byte),
  };
}

/** Level by level, so that states of less depth have lower numbers. */
function plantTree(patterns: readonly Buffer[]): { tree: Tree; depth: Int32Array; ending: Int32Array } {
  const statesMax = 1 + patterns.reduce((sum, pattern) => sum + pattern.length, 0);
  const tree: Tree = { edgeByte: new Int16Array(statesMax).fill(-1), edgeTo: new Int32Array(statesMax), branches: new Map() };
  const depth = new Int32Array(statesMax);
  const ending = new Int32Array(statesMax);
  let states = 1;
  let growing = patterns.filter((pattern) => pattern.length > 0).map((pattern) => ({ pattern, state: 0 }));
  for (let at = 0; growing.length > 0; at += 1) {
    for (const one of growing) {
      const byte = one.pattern[at] as number;
      let to = child(tree, one.state, byte);
      if (to < 0) {
        to = states;
        states += 1;
        addChild(tree, one.state, byte, to);
        depth[to] = at + 1;
      }
      one.state = to;
      if (at + 1 === one.pattern.length) ending[to] = at + 1;
    }
    growing = growing.filter(({ pattern }) => pattern.length > at + 1);
  }
  return { tree, depth: depth.slice(0, states), ending: ending.slice(0, states) };
}

/** Falls back to shorter beginnings until one goes on with the byte. */
function step(tree: Tree, fallback: Int32Array, from: number, byte: number): number {
  for (let state = from; ; state = fallback[state] as number) {
    const to = child(tree, state, byte);
    if (to >= 0) return to;
    if (state === 0) return 0;
  }
}

function child({ edgeByte, edgeTo, branches }: Tree, state: number, byte: number): number {
  if (edgeByte[state] === byte) return edgeTo[state] as number;
  return branches.get(state * 256 + byte) ?? -1;
}

function addChild({ edgeByte, edgeTo, branches }: Tree, state: number, byte: number, to: number): void {
  if (edgeByte[state] === -1) {
    edgeByte[state] = byte;
    edgeTo[state] = to;
  } else {
    branches.set(state * 256 + byte, to);
  }
}

/** For each state the longest other beginning of a pattern that ends as it does; each needs those of less depth. */
function linkFallbacks(tree: Tree, depth: Int32Array, ending: Int32Array): Int32Array {
  const states = depth.length;
  const parent = new Int32Array(states);
  const through = new Uint8Array(states);
  for (let state = 0; state < states; state += 1) {
    const to = tree.edgeTo[state] as number;
    if (to === 0) continue;
    parent[to] = state;
    through[to] = tree.edgeByte[state] as number;
  }
  for (const [key, to] of tree.branches) {
    parent[to] = Math.floor(key / 256);
    through[to] = key % 256;
  }
  const fallback = new Int32Array(states);
  for (let state = 1; state < states; state += 1) {
    const above = parent[state] as number;
    if (above !== 0) fallback[state] = step(tree, fallback, fallback[above] as number, through[state] as number);
    if (ending[state] === 0) ending[state] = ending[fallback[state] as number] as number;
  }
  return fallback;
}
