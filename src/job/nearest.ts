/** Which known name a misspelt one was meant for. */

/** The nearest other name by edit distance (a swap of neighbours counts one); null where none is nearer than a third of the name's length. */
export function nearestName(name: string, known: string[]): string | null {
  const most = Math.max(1, Math.floor(name.length / 3));
  let best: { name: string; distance: number } | null = null;
  for (const other of [...known].sort()) {
    if (other === name) continue;
    const distance = distanceOf(name, other);
    if (distance <= most && (best === null || distance < best.distance)) best = { name: other, distance };
  }
  return best?.name ?? null;
}

/** `no worker takes debian-21 now; did you mean debian-12?` */
export function noWorkerText(platform: string, nearest: string | null): string {
  return `no worker takes ${platform} now${nearest === null ? '' : `; did you mean ${nearest}?`}`;
}

function distanceOf(a: string, b: string): number {
  let [before, last]: [number[], number[]] = [[], Array.from({ length: b.length + 1 }, (_, column) => column)];
  for (let row = 1; row <= a.length; row += 1) {
    const line = [row];
    for (let column = 1; column <= b.length; column += 1) {
      const changed = (last[column - 1] ?? 0) + (a[row - 1] === b[column - 1] ? 0 : 1);
      const isSwap = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      const swapped = isSwap ? (before[column - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY;
      line.push(Math.min(changed, swapped, (last[column] ?? 0) + 1, (line[column - 1] ?? 0) + 1));
    }
    [before, last] = [last, line];
  }
  return last[b.length] ?? 0;
}
