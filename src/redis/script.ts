/** Lua scripts: sent once, then called by their digest. */
import { createHash } from 'node:crypto';
import type { Redis } from './connection.ts';

export interface Script {
  lua: string;
  sha1: string;
}

export function script(lua: string): Script {
  return { lua, sha1: createHash('sha1').update(lua).digest('hex') };
}

/** Runs a script atomically in Redis; a Redis that has forgotten it (restart) is sent it again. */
export async function runScript(redis: Redis, one: Script, keys: string[], args: (string | number | Buffer)[]): Promise<unknown> {
  try {
    return await redis.evalsha(one.sha1, keys.length, ...keys, ...args);
  } catch (cause) {
    if (!(cause instanceof Error) || !cause.message.startsWith('NOSCRIPT')) throw cause;
    return await redis.eval(one.lua, keys.length, ...keys, ...args);
  }
}
