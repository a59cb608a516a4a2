# builder's three programs in one image: `server`, `worker` and the command line.
# The worker runs scripts inside this image: a platform with more tools is an image made FROM this one, as root, then USER node.

ARG NODE_IMAGE=node:24-bookworm-slim

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

FROM ${NODE_IMAGE}
# tini reaps and passes signals on; perl, which starts scripts, is in Debian itself; bubblewrap is used where the host lets it.
RUN apt-get update -qq \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends tini bubblewrap \
  && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
  && install -d -o node -g node -m 0700 /var/lib/builder
WORKDIR /opt/builder
COPY package.json LICENSE ./
COPY bin bin
COPY --from=build /opt/builder/node_modules node_modules
COPY --from=build /opt/builder/dist dist
RUN ln -s /opt/builder/bin/builder /usr/local/bin/builder
ENV NODE_ENV=production BUILDER_WORK_DIR=/var/lib/builder
USER node
WORKDIR /var/lib/builder
VOLUME /var/lib/builder
EXPOSE 8420
ENTRYPOINT ["tini", "--", "/opt/builder/bin/builder"]
CMD ["--help"]
