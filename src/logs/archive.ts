/** The kept part of an attempt's log: NDJSON pieces in the store, each named by its first line and its number of lines. */
import type { Store } from '../artifacts/store.ts';
import type { LogChunk, LogId } from './stream.ts';

const LINE_DIGITS = 12;

/** A piece in the archive; `ndjson` is read when it is needed. */
interface Piece {
  key: string;
  firstLine: number;
  lines: number;
}

export async function archiveChunk(store: Store, log: LogId, chunk: LogChunk): Promise<void> {
  const name = `${String(chunk.firstLine).padStart(LINE_DIGITS, '0')}-${chunk.lines}.ndjson`;
  await store.putDocument(`${folderOf(log)}${name}`, chunk.ndjson);
}

/** The piece that holds a line, or null. */
export async function readArchived(store: Store, log: LogId, line: number): Promise<LogChunk | null> {
  const piece = (await listPieces(store, log)).find((one) => one.firstLine <= line && line < one.firstLine + one.lines);
  if (piece === undefined) return null;
  const ndjson = await store.getDocument(piece.key);
  return ndjson === null ? null : { firstLine: piece.firstLine, lines: piece.lines, ndjson };
}

/** The first line at or after a line that the archive holds, or null; tells how far a gap reaches. */
export async function nextArchivedLine(store: Store, log: LogId, line: number): Promise<number | null> {
  const later = (await listPieces(store, log))
    .filter((one) => one.firstLine + one.lines > line)
    .map((one) => Math.max(one.firstLine, line));
  return later.length === 0 ? null : Math.min(...later);
}

async function listPieces(store: Store, log: LogId): Promise<Piece[]> {
  const pieces: Piece[] = [];
  for (const key of await store.listDocuments(folderOf(log))) {
    const match = /\/(\d+)-(\d+)\.ndjson$/.exec(key);
    if (match !== null) pieces.push({ key, firstLine: Number(match[1]), lines: Number(match[2]) });
  }
  return pieces;
}

function folderOf(log: LogId): string {
  return `runs/${log.run}/${log.attempt}-${log.claim}/log/`;
}
