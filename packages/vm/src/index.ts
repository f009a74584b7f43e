export * from './errors.js';
export * from './guest-memory.js';
export * from './host-memory.js';
export * from './task.js';
