/** Tokens of producers: an id and a secret; Redis holds the digest of the whole alone. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import { SCOPES, type Scope, TokenInfo } from '../job/api.ts';
import type { Redis } from '../redis/connection.ts';
import { keys } from '../redis/keys.ts';

const StoredToken = z.object({ id: z.string(), name: z.string(), scope: z.enum(SCOPES), createdAt: z.string(), sha256: z.string() });

const ID_BYTES = 6;
const SECRET_BYTES = 32;

/** The token itself is in the answer and nowhere else. */
export async function createToken(redis: Redis, name: string, scope: Scope): Promise<TokenInfo & { token: string }> {
  const id = randomBytes(ID_BYTES).toString('hex');
  const token = `bld_${id}_${randomBytes(SECRET_BYTES).toString('base64url')}`;
  const info = { id, name, scope, createdAt: new Date().toISOString() };
  await redis.hset(keys.tokens, id, JSON.stringify({ ...info, sha256: digestOf(token).toString('hex') }));
  return { ...info, token };
}

/** The oldest first. */
export async function listTokens(redis: Redis): Promise<TokenInfo[]> {
  const stored = Object.values(await redis.hgetall(keys.tokens)).map((text) => TokenInfo.parse(JSON.parse(text)));
  return stored.sort((a, b) => (a.createdAt < b.createdAt ? -1 : 1));
}

/** False when there was none. Sessions made with it end with it. */
export async function revokeToken(redis: Redis, id: string): Promise<boolean> {
  return (await redis.hdel(keys.tokens, id)) === 1;
}

export async function tokenById(redis: Redis, id: string): Promise<TokenInfo | null> {
  const text = await redis.hget(keys.tokens, id);
  return text === null ? null : TokenInfo.parse(JSON.parse(text));
}

/** Null for a text that is no valid token. */
export async function checkToken(redis: Redis, token: string): Promise<TokenInfo | null> {
  const id = /^bld_([0-9a-f]{12})_[A-Za-z0-9_-]{43}$/.exec(token)?.[1];
  const text = id === undefined ? null : await redis.hget(keys.tokens, id);
  if (text === null) return null;
  const { sha256, ...info } = StoredToken.parse(JSON.parse(text));
  return timingSafeEqual(digestOf(token), Buffer.from(sha256, 'hex')) ? info : null;
}

export function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
