/** Artifacts on their way down: small ones that follow each other in the list together, since a request takes longer than such a file. */
import { setImmediate as othersTurn } from 'node:timers/promises';
import type { Artifact } from '../job/artifact.ts';
import { limits } from '../job/limits.ts';
import { eachAtOnce } from '../service/each.ts';
import { BuilderError } from '../service/errors.ts';
import type { Client } from './client.ts';
import { visible } from './output.ts';
import { openPlacing, type Placing } from './placing.ts';

export interface Fetch {
  run: string;
  attempt: number | undefined;
  /** As the server lists them. */
  listed: Artifact[];
  /** Those of them that are wanted. */
  artifacts: Artifact[];
  folder: string;
  signal: AbortSignal;
}

/** Artifacts from one position of the list on, without a gap. */
interface Row {
  first: number;
  artifacts: Artifact[];
}

/** The first fault ends the others too. Throws the signal's reason, what `Placing` throws, and what the server said. */
export async function fetchAll(client: Client, { listed, artifacts, folder, signal, ...of }: Fetch): Promise<void> {
  if (artifacts.length === 0) return;
  const placing = await openPlacing(folder);
  const failed = new AbortController();
  const from = { client, placing, ...of, signal: AbortSignal.any([signal, failed.signal]) };
  try {
    await eachAtOnce(inRows(listed, artifacts), limits.filesAtOnce, async (row) => {
      try {
        await fetchRow(from, row);
      } catch (thrown) {
        failed.abort();
        throw thrown;
      }
    });
  } catch (thrown) {
    await placing.tidy();
    throw thrown;
  }
}

/** Rows that one request may ask for; a larger file is one of its own. */
function inRows(listed: Artifact[], artifacts: Artifact[]): Row[] {
  const positions = new Map(listed.map((artifact, position) => [artifact, position]));
  const rows: Row[] = [];
  let bytes = 0;
  for (const artifact of artifacts) {
    const position = positions.get(artifact) ?? 0;
    const row = rows.at(-1);
    bytes += artifact.bytes;
    const fits = bytes <= limits.wholeFileBytesMax && row !== undefined && row.artifacts.length < limits.filesTogetherMax;
    if (fits && row.first + row.artifacts.length === position) {
      row.artifacts.push(artifact);
    } else {
      rows.push({ first: position, artifacts: [artifact] });
      bytes = artifact.bytes;
    }
  }
  return rows;
}

interface From extends Pick<Fetch, 'run' | 'attempt' | 'signal'> {
  client: Client;
  placing: Placing;
}

async function fetchRow(from: From, { first, artifacts }: Row): Promise<void> {
  const { client, placing, run, attempt, signal } = from;
  signal.throwIfAborted();
  const contents = artifacts.length === 1 ? null : await client.contents(run, first, artifacts, { attempt, signal });
  // Rows that have come together are placed without a wait: between them Ctrl-C gets its turn.
  await othersTurn();
  let at = 0;
  for (const artifact of artifacts) {
    signal.throwIfAborted();
    const content = contents?.subarray(at, at + artifact.bytes);
    at += artifact.bytes;
    if (content === undefined || !(await isPlaced(placing, artifact, content))) await placing.place(artifact, contentOf(from, artifact));
  }
}

/** False where it is damaged: asked for by itself it may be whole, and else the server says more. */
async function isPlaced(placing: Placing, artifact: Artifact, content: Uint8Array): Promise<boolean> {
  try {
    await placing.place(artifact, [content]);
    return true;
  } catch (thrown) {
    if (thrown instanceof BuilderError && thrown.code === 'damaged') return false;
    throw thrown;
  }
}

async function* contentOf({ client, run, attempt, signal }: From, artifact: Artifact): AsyncGenerator<Uint8Array> {
  try {
    yield* client.artifact(run, artifact, { attempt, signal });
  } catch (thrown) {
    throw inWords(artifact, thrown);
  }
}

/** A file that is gone since it was listed, or damaged in the store, is named. */
function inWords(artifact: Artifact, thrown: unknown): unknown {
  if (!(thrown instanceof BuilderError) || !['not-found', 'damaged'].includes(thrown.code)) return thrown;
  return new BuilderError(thrown.code, `expected ${visible(artifact.path)} at the server, got: ${thrown.message}`, { cause: thrown });
}
