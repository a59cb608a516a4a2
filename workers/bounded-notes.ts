/** Lines of log about many files: some of each kind in full, the rest as a number. */
import { limits } from '../src/job/limits.ts';

export interface BoundedNotes {
  /** `kind` is said of more than one, as in «skipped symbolic links»; `text` of this one. */
  add(kind: string, text: string): void;
  /** Every line, kind after kind. */
  lines(): string[];
}

export function createBoundedNotes(): BoundedNotes {
  const kinds = new Map<string, { shown: string[]; more: number }>();
  return {
    add: (kind, text) => {
      const known = kinds.get(kind) ?? { shown: [], more: 0 };
      kinds.set(kind, known);
      if (known.shown.length < limits.notesPerKindMax) known.shown.push(text);
      else known.more += 1;
    },
    lines: () => [...kinds].flatMap(([kind, { shown, more }]) => (more === 0 ? shown : [...shown, `${kind}: ${more} more`])),
  };
}
