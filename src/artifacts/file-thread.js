// @ts-check
/**
 * A thread for the work on a run's files that is all reading, hashing and writing: file-threads.ts starts it and asks. Each call of the system is
 * made at once, where a program's own thread would send it to another and wait for the answer: that takes longer than the call. In
 * JavaScript, since Node starts a thread from a file as it is, also for tests that run the sources.
 * @import { Answer, Copied, PutFile, PutRequest, Request } from './file-threads.ts'
 */
import { createHash, hash, randomUUID } from 'node:crypto';
import fs from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parentPort } from 'node:worker_threads';

/** What is read and hashed in one go. */
const READ_BYTES = 256 * 1024;
/** What is written in one go: for larger writes the system takes larger pages, which are new ones more often, and costly in a virtual machine. */
const WRITE_BYTES = 64 * 1024;
/** Written to the disk while what follows is still read and hashed, so that little is left to wait for at the end. */
const SYNC_BYTES = 32 * 1024 * 1024;

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
const sync = promisify(fs.fdatasync);

parentPort?.on('message', async (/** @type {Request} */ request) => {
  /** @type {Answer} */
  const answer = 'paths' in request ? { files: request.paths.map((path) => putFile(path, request)) } : await copy(request);
  parentPort?.postMessage(answer);
});

/**
 * Null for what is not as usual, of which nothing has been done then: no small regular file, or no store that takes it.
 * @param {string} path
 * @param {PutRequest} request
 * @returns {PutFile | null}
 */
function putFile(path, { blobs, incoming, bytesMax }) {
  try {
    const left = read(path, bytesMax);
    if (left === null) return null;
    const { content, mode } = left;
    const sha256 = hash('sha256', content);
    const target = join(blobs, sha256.slice(0, 2), sha256);
    let found = fs.statSync(target, { throwIfNoEntry: false });
    // A file of another length is damage; writing it anew heals it.
    if (found?.size !== content.length) {
      write(join(incoming, `file-${randomUUID()}`), target, content);
      found = fs.statSync(target);
    }
    return { bytes: content.length, mode, sha256, found: { ino: found.ino, ctimeMs: found.ctimeMs } };
  } catch {
    return null;
  }
}

/**
 * @param {string} path
 * @param {number} bytesMax
 */
function read(path, bytesMax) {
  const file = fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    const stats = fs.fstatSync(file);
    if (!stats.isFile() || stats.size > bytesMax) return null;
    const room = Buffer.allocUnsafe(stats.size + 1);
    let filled = 0;
    for (let got = -1; got !== 0 && filled < stats.size; filled += got) got = fs.readSync(file, room, filled, room.length - filled, filled);
    return filled > stats.size ? null : { content: room.subarray(0, filled), mode: stats.mode & 0o777 };
  } finally {
    fs.closeSync(file);
  }
}

/**
 * Whole and synced, then under its name; the name is not durable yet. Nothing stays after a failure.
 * @param {string} temporary
 * @param {string} target
 * @param {Buffer} content
 */
function write(temporary, target, content) {
  try {
    const file = fs.openSync(temporary, 'wx');
    try {
      writeAll(file, content);
      fs.fdatasyncSync(file);
    } finally {
      fs.closeSync(file);
    }
    fs.renameSync(temporary, target);
  } catch (cause) {
    fs.rmSync(temporary, { force: true });
    throw cause;
  }
}

/**
 * @param {number} file
 * @param {Buffer} content
 */
function writeAll(file, content) {
  for (let at = 0; at < content.length; ) at += fs.writeSync(file, content, at, Math.min(WRITE_BYTES, content.length - at));
}

/**
 * @param {Exclude<Request, PutRequest>} request
 * @returns {Promise<Copied>}
 */
async function copy({ source, target, bytes, stop }) {
  const digest = createHash('sha256');
  const room = Buffer.allocUnsafeSlow(READ_BYTES);
  let syncing = Promise.resolve();
  let [copied, unsynced] = [0, 0];
  /** @type {'source' | 'target'} */
  let at = 'source';
  try {
    while (copied <= bytes && Atomics.load(stop, 0) === 0) {
      at = 'source';
      const got = fs.readSync(source, room, 0, READ_BYTES, copied);
      if (got === 0) break;
      at = 'target';
      const piece = room.subarray(0, got);
      digest.update(piece);
      writeAll(target, piece);
      copied += got;
      unsynced += got;
      if (unsynced < SYNC_BYTES) continue;
      unsynced = 0;
      await syncing;
      syncing = sync(target);
      syncing.catch(() => undefined);
    }
    await syncing;
    return { copied, sha256: digest.digest('hex') };
  } catch (cause) {
    // Whoever asked closes the file.
    await syncing.catch(() => undefined);
    const { code, message } = /** @type {NodeJS.ErrnoException} */ (cause);
    return { failed: at, code, message };
  }
}
