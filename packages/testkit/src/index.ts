export * from './clock.js';
export * from './errors.js';
export * from './os/file.js';
export * from './os/host.js';
export * from './os/memory-object.js';
export * from './os/mm.js';
export * from './os/os.js';
export * from './os/task.js';
