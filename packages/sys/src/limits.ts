/** The most bytes in one view: an ArrayBuffer holds 4 GiB at most in Node 20, and one that is too long ends the process. */
export const MAX_VIEW = 2 ** 30;
/** The most bytes in one mapping; more than any address space here has, and still an exact number. */
export const MAX_MAPPING = 2 ** 47;
