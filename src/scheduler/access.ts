/** Who asks, and what they may do: bearer tokens, and sessions of the web pages that stand for a token. */
import type { FastifyRequest } from 'fastify';
import type { Scope } from '../job/api.ts';

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
