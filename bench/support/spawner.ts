/** A process that does nothing but start processes: node spawner.js, told by messages (spawning.ts). */
import { type SpawnRate, spawnRate } from './spawning.ts';

process.on('message', async (asked: SpawnRate) => {
  process.send?.(await spawnRate(asked).catch((cause: Error) => cause.message));
});
process.send?.('ready');
