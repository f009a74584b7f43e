/** What a thread of `ThreadExecutor` runs: one message in, one outcome out. */
import { parentPort } from 'node:worker_threads';
import { answer } from './answer.js';
import { attempt, type CardWork } from './executor.js';

parentPort?.on('message', (work: CardWork) => parentPort?.postMessage(attempt(answer, work)));
