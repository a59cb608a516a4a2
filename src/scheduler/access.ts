/** Who asks, and what they may do: bearer tokens, and sessions of the web pages that stand for a token. */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { SCOPES, type Scope } from '../job/api.ts';
import { limits } from '../job/limits.ts';
import type { Redis } from '../redis/connection.ts';
import { keys } from '../redis/keys.ts';
import { BuilderError } from '../service/errors.ts';
import { provesSameOrigin, sessionOf } from './session.ts';
import { checkToken, digestOf, tokenById } from './tokens.ts';

/** Who a request is from. */
export interface Identity {
  tokenId: string;
  name: string;
  scope: Scope;
  /** Came with the session cookie, so a page of another site may have sent it: changes need a same-origin check. */
  bySession: boolean;
}

export interface Access {
  /** Null when there is no valid token and no valid session. */
  identify(request: FastifyRequest): Promise<Identity | null>;
  /** Throws BuilderError `unauthorized` or `forbidden` (also for a change by session from another origin). */
  demand(request: FastifyRequest, scope: Scope): Promise<Identity>;
  /** The value of a new session's cookie, or null for a token that is not valid. */
  signIn(token: string): Promise<string | null>;
  signOut(request: FastifyRequest): Promise<void>;
}

const BOOTSTRAP = { id: 'bootstrap', name: 'bootstrap', scope: 'admin' } as const;
const READING = new Set(['GET', 'HEAD', 'OPTIONS']);
const SESSION_BYTES = 32;

type Known = Pick<Identity, 'name' | 'scope'> & { id: string };

export function createAccess({ redis, bootstrapToken }: { redis: Redis; bootstrapToken: string | null }): Access {
  const bootstrap = bootstrapToken === null ? null : digestOf(bootstrapToken);
  const bootstrapSession = bootstrap === null ? null : `${BOOTSTRAP.id}:${bootstrap.toString('hex')}`;
  const check = async (token: string): Promise<Known | null> => {
    if (bootstrap !== null && timingSafeEqual(digestOf(token), bootstrap)) return BOOTSTRAP;
    return checkToken(redis, token);
  };
  const ofSession = async (cookie: string): Promise<Known | null> => {
    const id = await redis.get(keys.session(digestOf(cookie).toString('hex')));
    if (id === null) return null;
    // Another bootstrap token than the one that signed in ends the session.
    if (id.startsWith(`${BOOTSTRAP.id}:`)) return id === bootstrapSession ? BOOTSTRAP : null;
    return tokenById(redis, id);
  };
  const identify = async (request: FastifyRequest): Promise<Identity | null> => {
    const { authorization } = request.headers;
    if (authorization !== undefined) {
      const token = /^Bearer +(\S+) *$/i.exec(authorization)?.[1];
      const known = token === undefined ? null : await check(token);
      return known === null ? null : identity(known, false);
    }
    const cookie = sessionOf(request);
    const known = cookie === null ? null : await ofSession(cookie);
    return known === null ? null : identity(known, true);
  };
  return {
    identify,
    demand: async (request, scope) => {
      const who = await identify(request);
      if (who === null) throw new BuilderError('unauthorized', 'expected a valid token (Authorization: Bearer …), got none');
      if (SCOPES.indexOf(who.scope) < SCOPES.indexOf(scope)) {
        throw new BuilderError('forbidden', `expected a token of scope ${scope}, got ${who.name} of scope ${who.scope}`);
      }
      if (who.bySession && !READING.has(request.method) && !provesSameOrigin(request)) {
        throw new BuilderError('forbidden', 'expected a page of this server, got a request from another site');
      }
      return who;
    },
    signIn: async (token) => {
      const known = await check(token);
      if (known === null) return null;
      const cookie = randomBytes(SESSION_BYTES).toString('base64url');
      const of = known.id === BOOTSTRAP.id ? (bootstrapSession ?? '') : known.id;
      await redis.set(keys.session(digestOf(cookie).toString('hex')), of, 'PX', limits.sessionTtlMs);
      return cookie;
    },
    signOut: async (request) => {
      const cookie = sessionOf(request);
      if (cookie !== null) await redis.del(keys.session(digestOf(cookie).toString('hex')));
    },
  };
}

function identity({ id, name, scope }: Known, bySession: boolean): Identity {
  return { tokenId: id, name, scope, bySession };
}
