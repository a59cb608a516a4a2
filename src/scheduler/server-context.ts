/** What the routes, the board and the pages of one server share. */
import type { Store } from '../artifacts/store.ts';
import type { LogSource } from '../logs/reader.ts';
import type { StoreScript } from '../queue/execute.ts';
import type { Queues } from '../queue/queues.ts';
import type { ServerConfig } from '../service/config.ts';
import type { Logger } from '../service/logger.ts';
import type { Access } from './access.ts';

export interface ServerContext {
  config: ServerConfig;
  queues: Queues;
  store: Store;
  /** Reads and follows logs; its wake-ups hold one connection for all followers. */
  logs: LogSource;
  storeScript: StoreScript;
  access: Access;
  logger: Logger;
  /** Aborted when the server stops: every follower ends. */
  stopping: AbortSignal;
}
