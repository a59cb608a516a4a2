/** Finds many patterns in one pass over bytes (Aho and Corasick), in time that does not grow with their number or likeness. */

/** State 0 is the root: nothing of any pattern has been seen. */
export interface Automaton {
  /** Of the longest pattern, in bytes. */
  readonly lengthMax: number;
  /** Whether a byte begins a pattern. */
  readonly begins: Uint8Array;
  /** How much of a pattern a state has seen. */
  readonly depth: Int32Array;
  /** The length of the longest pattern that ends in a state; 0 for none. */
  readonly ending: Int32Array;
  next(state: number, byte: number): number;
}

/** The edges of the tree: almost every state has one, which stands in the arrays; further ones lie in the map. */
interface Tree {
  edgeByte: Int16Array;
  edgeTo: Int32Array;
  branches: Map<number, number>;
  branching: Uint8Array;
}

export function buildAutomaton(patterns: readonly Buffer[]): Automaton {
  const statesMax = 1 + patterns.reduce((sum, pattern) => sum + pattern.length, 0);
  const tree: Tree = {
    edgeByte: new Int16Array(statesMax).fill(-1),
    edgeTo: new Int32Array(statesMax),
    branches: new Map(),
    branching: new Uint8Array(statesMax),
  };
  const depth = new Int32Array(statesMax);
  const ending = new Int32Array(statesMax);
  let states = 1;
  for (const pattern of patterns) {
    let state = 0;
    for (const byte of pattern) {
      let to = child(tree, state, byte);
      if (to < 0) {
        to = states;
        states += 1;
        addChild(tree, state, byte, to);
        depth[to] = (depth[state] ?? 0) + 1;
      }
      state = to;
    }
    ending[state] = pattern.length;
  }
  const fallback = linkFallbacks(tree, depth, ending);
  const begins = new Uint8Array(256);
  for (let byte = 0; byte < 256; byte += 1) begins[byte] = child(tree, 0, byte) < 0 ? 0 : 1;
  return {
    lengthMax: patterns.reduce((most, pattern) => Math.max(most, pattern.length), 0),
    begins,
    depth,
    ending,
    next: (from, byte) => step(tree, fallback, from, byte),
  };
}

/** Falls back to shorter beginnings until one goes on with the byte. */
function step(tree: Tree, fallback: Int32Array, from: number, byte: number): number {
  for (let state = from; ; state = fallback[state] as number) {
    const to = child(tree, state, byte);
    if (to >= 0) return to;
    if (state === 0) return 0;
  }
}

function child({ edgeByte, edgeTo, branches, branching }: Tree, state: number, byte: number): number {
  if (edgeByte[state] === byte) return edgeTo[state] as number;
  return branching[state] === 1 ? (branches.get(state * 256 + byte) ?? -1) : -1;
}

function addChild({ edgeByte, edgeTo, branches, branching }: Tree, state: number, byte: number, to: number): void {
  if (edgeByte[state] === -1) {
    edgeByte[state] = byte;
    edgeTo[state] = to;
    return;
  }
  branching[state] = 1;
  branches.set(state * 256 + byte, to);
}

/** For each state the longest other beginning of a pattern that ends as it does; level by level, as each needs those above it. */
function linkFallbacks(tree: Tree, depth: Int32Array, ending: Int32Array): Int32Array {
  const fallback = new Int32Array(depth.length);
  const further = new Map<number, [number, number][]>();
  for (const [key, to] of tree.branches) {
    const state = Math.floor(key / 256);
    const edges = further.get(state);
    if (edges === undefined) further.set(state, [[key % 256, to]]);
    else edges.push([key % 256, to]);
  }
  const queue = [0];
  for (let at = 0; at < queue.length; at += 1) {
    const state = queue[at] as number;
    const edges = [...(further.get(state) ?? [])];
    if (tree.edgeByte[state] !== -1) edges.push([tree.edgeByte[state] as number, tree.edgeTo[state] as number]);
    for (const [byte, to] of edges) {
      if (state !== 0) fallback[to] = step(tree, fallback, fallback[state] as number, byte);
      const inherited = ending[fallback[to] as number] as number;
      if (ending[to] === 0) ending[to] = inherited;
      queue.push(to);
    }
  }
  return fallback;
}
