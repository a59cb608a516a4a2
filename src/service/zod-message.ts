/** One line for people out of a failed parse. */

interface Issue {
  path: PropertyKey[];
  message: string;
}

/** `inputs.0.sha256: expected …; env: …`: every fault with its place, on one line. */
export function describeIssues(issues: readonly Issue[]): string {
  return issues.map((issue) => (issue.path.length > 0 ? `${issue.path.map(String).join('.')}: ` : '') + issue.message).join('; ');
}
