/** Scripts are blobs, shared by all runs with the same text; the few that are in use are remembered. */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { limits } from '../job/limits.ts';
import type { ScriptRef } from '../job/run.ts';
import { BuilderError } from '../service/errors.ts';
import { checkedContent } from './checked-content.ts';
import type { Store } from './store.ts';

interface Remembered {
  /** The least recently used first. */
  scripts: Map<string, Buffer>;
  bytes: number;
}

const rememberedBy = new WeakMap<Store, Remembered>();

/** Stores a script once per text. Throws `too-large`, and what the store throws. */
export async function storeScript(store: Store, text: string): Promise<ScriptRef> {
  const content = Buffer.from(text);
  if (content.length > limits.scriptBytesMax) {
    throw new BuilderError('too-large', `expected a script of at most ${limits.scriptBytesMax} bytes, got ${content.length}`);
  }
  const sha256 = createHash('sha256').update(content).digest('hex');
  if (recall(store, sha256) === null) {
    await store.putBlob({ sha256, bytes: content.length, open: () => Readable.from([content]), content });
    remember(store, sha256, content);
  }
  return { sha256, bytes: content.length };
}

/** Throws `not-found` for a script that the store no longer has, ContentMismatch for one whose bytes are not those of its digest. */
export async function readScript(store: Store, ref: ScriptRef): Promise<Buffer> {
  const known = recall(store, ref.sha256);
  if (known !== null) return known;
  const stream = await store.getBlob(ref.sha256);
  const chunks: Buffer[] = [];
  for await (const chunk of checkedContent({ ...ref, open: () => stream })) chunks.push(chunk);
  const content = Buffer.concat(chunks);
  remember(store, ref.sha256, content);
  return content;
}

function recall(store: Store, sha256: string): Buffer | null {
  const remembered = rememberedBy.get(store);
  const content = remembered?.scripts.get(sha256);
  if (remembered === undefined || content === undefined) return null;
  remembered.scripts.delete(sha256);
  remembered.scripts.set(sha256, content);
  return content;
}

function remember(store: Store, sha256: string, content: Buffer): void {
  const remembered = rememberedBy.get(store) ?? { scripts: new Map<string, Buffer>(), bytes: 0 };
  rememberedBy.set(store, remembered);
  if (!remembered.scripts.has(sha256)) remembered.bytes += content.length;
  remembered.scripts.set(sha256, content);
  for (const [oldest, { length }] of remembered.scripts) {
    if (remembered.bytes <= limits.scriptCacheBytes) return;
    remembered.scripts.delete(oldest);
    remembered.bytes -= length;
  }
}
