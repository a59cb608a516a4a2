/** Ids of runs that are equal on every server: made of what the runs are of. */
import { v5 } from 'uuid';

/** Fixed for ever: the run of a tick, or of a request, has the same UUID whichever server submits it. */
const RUN_NAMESPACE = '7c3f3a0e-52a1-4f5e-9d0b-0f6f5b3f9c11';

/** The id of the run that a definition's tick submits: equal on every server, so one tick never runs twice. */
export function tickRunId(definitionId: string, platform: string, tickMs: number): string {
  return v5(`${definitionId} ${platform} ${tickMs}`, RUN_NAMESPACE);
}

/** The id of one platform's run of those that a request makes together under one id. */
export function partRunId(requestId: string, platform: string): string {
  return v5(`${requestId} ${platform}`, RUN_NAMESPACE);
}
