/** Folders below a store's own that are there durably: what is known of them, so that each is made and synced once. */
import { mkdir, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { SyncFolder } from './folder-sync.ts';

export interface DurableFolders {
  /** Its name is durable once `makeDurable` has resolved for it. Throws the system's errors, as all here. */
  make(folder: string): Promise<void>;
  /** Of a folder that is there, and of those above it that are not known. */
  makeDurable(folder: string): Promise<unknown>;
  /** Those down to a folder that are not known to be durable, the topmost first, and whether what they lie in is. */
  unknown(folder: string): { unknown: string[]; above: Promise<boolean> };
  /** They are there durably. */
  know(folders: readonly string[]): void;
  /** Both. */
  ensure(folder: string): Promise<void>;
  /** Of many in one folder, which is synced once. */
  ensureAll(parent: string, names: readonly string[]): Promise<void>;
  /** Another process may have removed any of them. */
  forget(): void;
  forgetOne(folder: string): void;
}

/** More of them than this would only fill memory. */
const KNOWN_FOLDERS_MAX = 10_000;

export function createDurableFolders(root: string, syncFolder: SyncFolder): DurableFolders {
  /** Folders whose own names are durable, or are about to be. */
  const known = new Map<string, Promise<unknown>>([[root, Promise.resolve()]]);
  const forget = (): void => {
    for (const folder of known.keys()) if (folder !== root) known.delete(folder);
  };
  const make = async (folder: string): Promise<void> => {
    if (known.has(folder)) return;
    if (known.size >= KNOWN_FOLDERS_MAX) forget();
    const first = await mkdir(folder, { recursive: true });
    // What was known above it may have gone, and been made anew with it.
    for (let at = dirname(folder); first !== undefined && at.length >= first.length && at !== root; at = dirname(at)) known.delete(at);
  };
  const makeDurable = (folder: string): Promise<unknown> => {
    const being = known.get(folder);
    if (being !== undefined) return being;
    const above = dirname(folder);
    const durable = Promise.all([makeDurable(above), syncFolder(above)]);
    known.set(folder, durable);
    durable.catch(() => known.delete(folder));
    return durable;
  };
  const know = (folders: readonly string[]): void => {
    if (known.size + folders.length > KNOWN_FOLDERS_MAX) forget();
    for (const folder of folders) known.set(folder, Promise.resolve());
  };
  const unknown = (folder: string): { unknown: string[]; above: Promise<boolean> } => {
    const found: string[] = [];
    let at = folder;
    for (; !known.has(at); at = dirname(at)) found.unshift(at);
    const above = (known.get(at) as Promise<unknown>).then(
      () => true,
      () => false,
    );
    return { unknown: found, above };
  };
  const ensure = async (folder: string): Promise<void> => {
    await make(folder);
    await makeDurable(folder);
  };
  return {
    make,
    makeDurable,
    unknown,
    know,
    ensure,
    ensureAll: async (parent, names) => {
      await ensure(parent);
      const there = new Set((await readdir(parent, { withFileTypes: true })).filter((one) => one.isDirectory()).map(({ name }) => name));
      for (const name of names) if (!there.has(name)) await mkdir(join(parent, name), { recursive: true });
      // Whoever made those that are there may not have come so far.
      await syncFolder(parent);
      know(names.map((name) => join(parent, name)));
    },
    forget,
    forgetOne: (folder) => void known.delete(folder),
  };
}
