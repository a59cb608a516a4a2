// @ts-check
/**
 * A thread for the work on a run's files that is all reading, hashing and writing: file-threads.ts starts it and asks. Each call of the system is
 * made at once, but for those that wait for the disk; a program's own thread would send each to another and wait for the answer, which takes longer
 * than the call. In JavaScript, since Node starts a thread from a file as it is, also for tests that run the sources.
 * @import { Answer, Copied, CopyRequest, PutFile, PutRequest, Request, Stoppable, WriteRequest } from './file-threads.ts'
 */
import { createHash, hash, randomUUID } from 'node:crypto';
import fs from 'node:fs';
import { promisify } from 'node:util';
import { parentPort } from 'node:worker_threads';

/** What is read and hashed in one go. */
const READ_BYTES = 256 * 1024;
/** What is written in one go: for larger writes the system takes larger pages, which are new ones more often, and costly in a virtual machine. */
const WRITE_BYTES = 64 * 1024;
/** Written to the disk while what follows is still read and hashed, so that little is left to wait for at the end. */
const SYNC_BYTES = 8 * 1024 * 1024;

/** Of artifacts, of this thread: more would only wait in Node's own pool of four, before whatever else the program reads and writes. A run waits for its documents. */
const SYNCS_AT_ONCE = 2;
/** A disk that takes longer for one gains by several at once; asking the pool costs a tenth of it. */
const SLOW_SYNC_MS = 1;

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
const sync = promisify(fs.fdatasync);
const syncFolder = promisify(fs.fsync);

let syncing = 0;
/** Those that wait for their turn. @type {(() => void)[]} */
const waiting = [];
/** One request for small files at a time: each file is open until it is synced. @type {Promise<unknown>} */
let putting = Promise.resolve();
/** What is read of a small file, until the next one is read. */
let smallRoom = Buffer.alloc(0);

parentPort?.on('message', async (/** @type {{ id: number, request: Request }} */ { id, request }) => {
  /** @type {Answer} */
  const answer = await answerTo(request);
  parentPort?.postMessage({ id, answer });
});

/**
 * @param {Request} request
 * @returns {Promise<Answer>}
 */
async function answerTo(request) {
  if ('writes' in request) return { written: await writeAllDurably(request.writes) };
  return 'paths' in request ? { files: await putInTurn(request) } : copy(request);
}

/** @param {PutRequest & Stoppable} request */
function putInTurn(request) {
  const put = putting.then(() => putFiles(request));
  putting = put.catch(() => undefined);
  return put;
}

/**
 * Null for what is not as usual, and is left to others: no small regular file, or no store that takes it. Whoever syncs a new file has its folder
 * written too, where that has changed: so these have one of their own, which nobody changes from the first sync to the last.
 * @param {PutRequest & Stoppable} request
 * @returns {Promise<(PutFile | null)[]>}
 */
async function putFiles(request) {
  const folder = `${request.incoming}/files-${randomUUID()}`;
  let made = 0;
  const newTemporary = () => {
    if (made === 0) fs.mkdirSync(folder);
    made += 1;
    return `${folder}/${made}`;
  };
  const put = request.paths.map((path) => putFile(path, request, newTemporary));
  const synced = await Promise.allSettled(put.map((one) => (isWritten(one) ? syncInTurn(one.file, request.stop) : undefined)));
  const named = put.map((one, index) => (isWritten(one) ? name(one, synced[index]?.status === 'fulfilled') : one));
  if (made > 0) orNull(() => fs.rmdirSync(folder));
  return named;
}

/**
 * @param {PutFile | Written | null} one
 * @returns {one is Written}
 */
function isWritten(one) {
  return one !== null && 'temporary' in one;
}

/**
 * Under a temporary name, open and not synced yet.
 * @typedef {{ bytes: number, mode: number, sha256: string, target: string, temporary: string, file: number }} Written
 */

/**
 * @param {string} path
 * @param {PutRequest & Stoppable} request
 * @param {() => string} newTemporary
 * @returns {PutFile | Written | null}
 */
function putFile(path, { blobs, bytesMax, stop }, newTemporary) {
  if (Atomics.load(stop, 0) !== 0) return null;
  try {
    const left = read(path, bytesMax);
    if (left === null) return null;
    const { content, mode } = left;
    const sha256 = hash('sha256', content);
    const target = `${blobs}/${sha256.slice(0, 2)}/${sha256}`;
    const bytes = content.length;
    const found = fs.statSync(target, { throwIfNoEntry: false });
    // A file of another length is damage; writing it anew heals it.
    if (found?.size === bytes) return { bytes, mode, sha256, found: { ino: found.ino, ctimeMs: found.ctimeMs } };
    const temporary = newTemporary();
    return { bytes, mode, sha256, target, temporary, file: write(temporary, content) };
  } catch {
    return null;
  }
}

/**
 * Under its name, which is not durable yet, once it is whole and synced. Nothing stays after a failure.
 * @param {Written} written
 * @param {boolean} isSynced
 * @returns {PutFile | null}
 */
function name({ bytes, mode, sha256, target, temporary, file }, isSynced) {
  try {
    fs.closeSync(file);
    if (!isSynced) throw new Error('not synced');
    fs.renameSync(temporary, target);
    const { ino, ctimeMs } = fs.statSync(target);
    return { bytes, mode, sha256, found: { ino, ctimeMs } };
  } catch {
    remove(temporary);
    return null;
  }
}

/**
 * @param {number} file
 * @param {Int32Array} stop
 */
async function syncInTurn(file, stop) {
  if (syncing === SYNCS_AT_ONCE) await /** @type {Promise<void>} */ (new Promise((resolve) => waiting.push(resolve)));
  else syncing += 1;
  try {
    if (Atomics.load(stop, 0) !== 0) throw new Error('not wanted any more');
    await sync(file);
  } finally {
    const next = waiting.shift();
    if (next === undefined) syncing -= 1;
    else next();
  }
}

/**
 * Where that fails too, the next opening of the store sees to it.
 * @param {string} temporary
 */
function remove(temporary) {
  try {
    fs.rmSync(temporary, { force: true });
  } catch {}
}

/**
 * Its content is there until the next call: memory that is new for each file takes longer than reading it.
 * @param {string} path
 * @param {number} bytesMax
 */
function read(path, bytesMax) {
  const file = fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    const stats = fs.fstatSync(file);
    if (!stats.isFile() || stats.size > bytesMax) return null;
    if (smallRoom.length <= stats.size) smallRoom = Buffer.allocUnsafeSlow(Math.max(READ_BYTES, stats.size + 1));
    let filled = 0;
    for (let got = -1; got !== 0 && filled < stats.size; filled += got)
      got = fs.readSync(file, smallRoom, filled, stats.size + 1 - filled, filled);
    return filled > stats.size ? null : { content: smallRoom.subarray(0, filled), mode: stats.mode & 0o777 };
  } finally {
    fs.closeSync(file);
  }
}

/**
 * Nothing stays after a failure.
 * @param {string} temporary
 * @param {Buffer} content
 */
function write(temporary, content) {
  const file = fs.openSync(temporary, 'wx');
  try {
    writeAll(file, content, 0);
    return file;
  } catch (cause) {
    remove(temporary);
    fs.closeSync(file);
    throw cause;
  }
}

/**
 * @param {number} file
 * @param {Buffer} content
 * @param {number} from Where in the file.
 */
function writeAll(file, content, from) {
  for (let at = 0; at < content.length; ) at += fs.writeSync(file, content, at, Math.min(WRITE_BYTES, content.length - at), from + at);
}

/**
 * @param {CopyRequest & Stoppable} request
 * @returns {Promise<Copied>}
 */
async function copy({ source, target, bytes, stop }) {
  const digest = createHash('sha256');
  const room = Buffer.allocUnsafeSlow(READ_BYTES);
  let early = Promise.resolve();
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
      writeAll(target, piece, copied);
      copied += got;
      unsynced += got;
      if (unsynced < SYNC_BYTES) continue;
      unsynced = 0;
      // Others get their turn meanwhile.
      await early;
      early = syncInTurn(target, stop);
      early.catch(() => undefined);
    }
    at = 'target';
    await early;
    return { copied, sha256: digest.digest('hex') };
  } catch (cause) {
    // Whoever asked closes the file.
    await early.catch(() => undefined);
    const { code, message } = /** @type {NodeJS.ErrnoException} */ (cause);
    return { failed: at, code, message };
  }
}

/**
 * Each file durable before it has its name, and each folder synced once for all of them.
 * @param {readonly WriteRequest[]} writes
 * @returns {Promise<boolean[]>}
 */
async function writeAllDurably(writes) {
  const files = writes.map(({ temporary, content }) => orNull(() => write(temporary, Buffer.from(content.buffer))));
  const synced = await syncEach(files, fs.fdatasyncSync, sync);
  const named = writes.map((one, index) => synced[index] === true && orNull(() => place(one)) !== null);
  const folders = [...new Set(writes.flatMap((one, index) => (named[index] ? one.sync : [])))];
  const opened = folders.map((folder) => orNull(() => fs.openSync(folder, 'r')));
  const durable = await syncEach(opened, fs.fsyncSync, syncFolder);
  const lost = folders.filter((_, index) => !durable[index]);
  for (const [index, { temporary }] of writes.entries()) if (!named[index] && files[index] !== null) remove(temporary);
  // Also for one that has left it to another of the same request to sync.
  const isLost = (/** @type {WriteRequest} */ { target, sync }) => lost.some((one) => sync.includes(one) || target.startsWith(`${one}/`));
  return writes.map((one, index) => named[index] === true && !isLost(one));
}

/** @param {WriteRequest} request */
function place({ temporary, target, make }) {
  for (const folder of make) makeFolder(folder);
  fs.renameSync(temporary, target);
}

/** @param {string} folder */
function makeFolder(folder) {
  try {
    fs.mkdirSync(folder);
  } catch (cause) {
    if (/** @type {NodeJS.ErrnoException} */ (cause).code !== 'EEXIST') throw cause;
  }
}

/**
 * Syncs and closes what is open. A disk that takes its time is asked for several at once by the pool, which takes longer than one that does not.
 * @param {readonly (number | null)[]} files
 * @param {(file: number) => void} now
 * @param {(file: number) => Promise<void>} later
 * @returns {Promise<boolean[]>}
 */
async function syncEach(files, now, later) {
  let isSlow = false;
  /** @param {number} file */
  const syncOne = (file) => {
    if (isSlow) return later(file);
    const beganAtMs = performance.now();
    now(file);
    isSlow = performance.now() - beganAtMs > SLOW_SYNC_MS;
    return undefined;
  };
  const done = await Promise.allSettled(files.map(async (file) => (file === null ? Promise.reject() : syncOne(file))));
  for (const file of files) if (file !== null) orNull(() => fs.closeSync(file));
  return done.map(({ status }) => status === 'fulfilled');
}

/**
 * Null where it throws.
 * @template T
 * @param {() => T} work
 * @returns {T | null}
 */
function orNull(work) {
  try {
    return work();
  } catch {
    return null;
  }
}
