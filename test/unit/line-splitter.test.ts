import { describe, expect, it } from '@jest/globals';
import { createLineSplitter } from '../../workers/line-splitter.ts';

describe('a log that can no longer be written', () => {
  it('refuses each further line, and still ends with the digest of what was written', async () => {
    const written: string[] = [];
    const splitter = createLineSplitter({
      startedAtMs: 0,
      now: () => 0,
      write: async (ndjson) => {
        if (written.length > 0) throw new Error('full');
        written.push(ndjson.toString());
      },
    });
    await splitter.push('stdout', Buffer.from('kept\n'));
    const say = (text: string) => splitter.push('stdout', Buffer.from(text));
    await expect(Promise.allSettled([say('a\n'), say('b\n')])).resolves.toMatchObject([{ status: 'rejected' }, { status: 'rejected' }]);
    await expect(say('c\n')).rejects.toThrow('full');
    await expect(say('d\n')).rejects.toThrow('full');
    await expect(splitter.end()).resolves.toMatchObject({ lines: 1, bytes: 5, truncated: false });
    expect(written).toHaveLength(1);
  });

  it('writes together what comes while a write goes on, in order', async () => {
    const written: { ndjson: string; lines: number }[] = [];
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const splitter = createLineSplitter({
      startedAtMs: 0,
      now: () => 0,
      write: async (ndjson, lines) => {
        written.push({ ndjson: ndjson.toString(), lines });
        await held;
      },
    });
    const pushed = ['1\n', '2\n', '3\n', '4\n'].map((text) => splitter.push('stdout', Buffer.from(text)));
    release();
    await Promise.all(pushed);
    expect(written.map(({ lines }) => lines)).toEqual([1, 3]);
    const texts = written.flatMap(({ ndjson }) => ndjson.trimEnd().split('\n')).map((json) => JSON.parse(json).text);
    expect(texts).toEqual(['1', '2', '3', '4']);
    await expect(splitter.end()).resolves.toMatchObject({ lines: 4, bytes: 8 });
  });
});
