# builder's three programs in one image: `server`, `worker` and the command line.
# The worker runs scripts inside this image: a platform with more tools is an image made FROM this one, as root, then USER builder.

ARG NODE_IMAGE=node:24-bookworm-slim
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /opt/builder
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts --no-progress --loglevel=error
COPY tsconfig.json tsconfig.build.json ./
COPY src src
COPY workers workers
# The compiler is an optional peer of a package, so npm keeps it.
RUN npm run --silent build \
  && npm prune --omit=dev --ignore-scripts --no-progress --loglevel=error \
  && rm -rf dist/.tsbuildinfo node_modules/typescript node_modules/@typescript
# A program that its user may not read cannot be looked into by that user's other programs: scripts run as the worker's
# user, and its environment holds the keys of Redis and of the store.
RUN cp "$(command -v node)" node && chmod 0711 node
COPY package.json LICENSE ./
COPY bin bin

FROM ${BASE_IMAGE}
# tini reaps and passes signals on; perl, which starts scripts, is in Debian itself; bubblewrap is used where the host lets it.
RUN apt-get update -qq \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends tini bubblewrap \
  && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
  && chmod 0711 /usr/bin/tini \
  && useradd --uid 1000 --home-dir /var/lib/builder --shell /usr/sbin/nologin builder \
  && install -d -o builder -g builder -m 0700 /var/lib/builder \
  && printf '#!/bin/sh\nexec /opt/builder/node /opt/builder/bin/builder "$@"\n' >/usr/local/bin/builder \
  && chmod 0755 /usr/local/bin/builder
COPY --from=build /opt/builder/node /opt/builder/package.json /opt/builder/LICENSE /opt/builder/
COPY --from=build /opt/builder/node_modules /opt/builder/node_modules
COPY --from=build /opt/builder/bin /opt/builder/bin
COPY --from=build /opt/builder/dist /opt/builder/dist
ENV NODE_ENV=production BUILDER_WORK_DIR=/var/lib/builder
USER builder
WORKDIR /var/lib/builder
VOLUME /var/lib/builder
EXPOSE 8420
ENTRYPOINT ["tini", "--", "builder"]
CMD ["--help"]
