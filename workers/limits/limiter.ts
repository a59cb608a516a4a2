/** What of a run's limits this worker enforces, and how: control groups first, what the kernel can do for single processes second. */
import type { RunOptions } from '../../src/job/run.ts';
import { formatSize } from '../../src/job/size.ts';
import { type Cgroups, CONTROLLERS, type Controller } from './cgroups.ts';
import { openRunCgroup, type RunCgroup } from './run-cgroup.ts';

export type LimitOptions = Pick<RunOptions, 'memoryBytes' | 'cpus' | 'pids' | 'diskBytes' | 'network' | 'strictLimits'>;

/** Limits of each single process, as setrlimit(2) has them. */
export interface ProcessLimits {
  fileBytes: number | null;
  dataBytes: number | null;
}

export interface Limiter {
  /** Why the run must not start here; null when it may. Behind the code `limits`. */
  refusal(spec: LimitOptions): string | null;
  /** The line at the start of the log that says what is not enforced; null when all is. */
  note(spec: LimitOptions): string | null;
  /** Null when the run needs none. */
  open(spec: LimitOptions, o: { claim: string; notePath: string }): RunCgroup | null;
  processLimits(spec: LimitOptions): ProcessLimits;
  /** For the worker's own log: how each is enforced, or why not. */
  described: Record<Controller, string>;
}

interface Gap {
  limit: string;
  why: string;
}

/** `isolates`: the sandbox has namespaces, so that it can take the network away. */
export function createLimiter(cgroups: Cgroups, isolates: boolean): Limiter {
  const missing = (controller: Controller): string | null => {
    const hierarchy = cgroups[controller];
    return typeof hierarchy === 'string' ? hierarchy : null;
  };
  const processLimits = (spec: LimitOptions): ProcessLimits => ({
    fileBytes: spec.diskBytes,
    // The address space would be a poor measure: Node, Go and Java reserve far more of it than they use.
    dataBytes: missing('memory') === null ? null : spec.memoryBytes,
  });
  const gapsOf = (spec: LimitOptions): Gap[] => {
    const gaps: Gap[] = [];
    const add = (limit: string, asked: number | null, why: string | null): void => {
      if (asked !== null && why !== null) gaps.push({ limit, why });
    };
    const alone = `each process by itself may use ${formatSize(spec.memoryBytes ?? 0)}`;
    add('memory', spec.memoryBytes, missing('memory') && `${missing('memory')}; ${alone}`);
    add('cpus', spec.cpus, missing('cpu'));
    add('pids', spec.pids, missing('pids'));
    return gaps;
  };
  const said = (gaps: Gap[]): string => gaps.map(({ limit, why }) => `${limit} (${why})`).join(', ');
  return {
    refusal: (spec) => {
      // Whoever asks for this has something to protect: it is never left out.
      if (spec.network === 'none' && !isolates) return 'not enforced here: network (the sandbox none cannot take it away)';
      const gaps = gapsOf(spec);
      return spec.strictLimits && gaps.length > 0 ? `not enforced here: ${said(gaps)}` : null;
    },
    note: (spec) => {
      const gaps = gapsOf(spec);
      return gaps.length > 0 ? `not enforced here: ${said(gaps)}` : null;
    },
    open: (spec, o) => openRunCgroup({ cgroups, spec, ...o }),
    processLimits,
    described: Object.fromEntries(CONTROLLERS.map((one) => [one, describeOne(cgroups[one])])) as Record<Controller, string>,
  };
}

function describeOne(hierarchy: Cgroups[Controller]): string {
  return typeof hierarchy === 'string' ? `not enforced: ${hierarchy}` : `cgroup v${hierarchy.version} in ${hierarchy.base}`;
}
