/** The session cookie of the web pages, and whether a request comes from one of them. */
import type { FastifyRequest } from 'fastify';
import { limits } from '../job/limits.ts';

const COOKIE = 'builder_session';

/** Null when there is none. */
export function sessionOf(request: FastifyRequest): string | null {
  for (const part of (request.headers.cookie ?? '').split(';')) {
    const [name, value] = part.trim().split('=', 2);
    if (name === COOKIE && value !== undefined && value !== '') return value;
  }
  return null;
}

/** A `Set-Cookie` header: HttpOnly and SameSite=Strict; Secure where the person came by TLS. Null ends the session. */
export function sessionCookie(request: FastifyRequest, value: string | null): string {
  const secure = request.headers['x-forwarded-proto'] === 'https' || request.protocol === 'https' ? '; Secure' : '';
  const age = value === null ? 0 : Math.floor(limits.sessionTtlMs / 1000);
  return `${COOKIE}=${value ?? ''}; Path=/; HttpOnly; SameSite=Strict; Max-Age=${age}${secure}`;
}

/** What browsers say of a request's origin; one that says nothing is no browser, and has no session to be abused. */
export function isSameOrigin(request: FastifyRequest): boolean {
  const { origin, 'sec-fetch-site': site } = request.headers;
  return provesSameOrigin(request) || (site === undefined && origin === undefined);
}

/** Every browser sends one of the two with a change; a session that changes something must have one. */
export function provesSameOrigin(request: FastifyRequest): boolean {
  const { origin, host, 'sec-fetch-site': site } = request.headers;
  if (site !== undefined) return site === 'same-origin';
  return origin !== undefined && URL.canParse(origin) && new URL(origin).host === host?.toLowerCase();
}
