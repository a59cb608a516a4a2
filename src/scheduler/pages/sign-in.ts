/** Signing in turns a token into a session cookie; signing out ends it. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { BuilderError } from '../../service/errors.ts';
import type { ServerContext } from '../server-context.ts';
import { isSameOrigin, sessionCookie } from '../session.ts';
import { html, sendPage } from './html.ts';

export function signInRoutes(app: FastifyInstance, { access }: ServerContext): void {
  app.get('/signin', { config: { public: true } }, (request, reply) => signInPage(reply, { next: nextOf(request.query), status: 200 }));

  app.post('/signin', { config: { public: true } }, async (request, reply) => {
    if (!isSameOrigin(request)) throw new BuilderError('forbidden', 'expected the form of this server, got one from another site');
    const next = nextOf(request.body);
    const token = fieldOf(request.body, 'token').trim();
    const cookie = token === '' ? null : await access.signIn(token);
    if (cookie === null) return signInPage(reply, { next, status: 401, message: 'That token is not valid.' });
    return reply.header('set-cookie', sessionCookie(request, cookie)).redirect(next, 303);
  });

  app.get('/signout', (_, reply) =>
    sendPage(reply, {
      title: 'Sign out',
      body: html`<h1>Sign out of builder?</h1><form method="post" action="/signout"><button>Sign out</button></form>`,
    }),
  );

  app.post('/signout', { config: { public: true } }, async (request: FastifyRequest, reply) => {
    if (!isSameOrigin(request)) throw new BuilderError('forbidden', 'expected the form of this server, got one from another site');
    await access.signOut(request);
    return reply.header('set-cookie', sessionCookie(request, null)).redirect('/signin', 303);
  });
}

function signInPage(reply: FastifyReply, o: { next: string; status: number; message?: string }): FastifyReply {
  const message = o.message === undefined ? '' : html`<p class="failed">${o.message}</p>`;
  return sendPage(reply, {
    title: 'Sign in',
    status: o.status,
    body: html`<h1>Sign in to builder</h1>${message}
<p>With a token of this server: <code>builder token create NAME --scope read</code>, or the one in <code>client.json</code> that <code>builder up</code> wrote.</p>
<form method="post" action="/signin"><input type="hidden" name="next" value="${o.next}">
<p><input type="password" name="token" aria-label="Token" placeholder="Token" autocomplete="current-password" autofocus required> <button>Sign in</button></p></form>`,
  });
}

/** Where to go on: a path of this server, never another site. */
function nextOf(fields: unknown): string {
  const next = fieldOf(fields, 'next');
  return /^\/(?![/\\])[\x21-\x7e]*$/.test(next) && !next.includes('\\') ? next : '/';
}

function fieldOf(fields: unknown, name: string): string {
  const value = typeof fields === 'object' && fields !== null ? (fields as Record<string, unknown>)[name] : undefined;
  return typeof value === 'string' ? value : '';
}
