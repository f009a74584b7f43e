/** This machine cannot have a kit, for a reason that is not the project's: the message names what is missing. */
export class Missing extends Error {
  override readonly name = 'Missing';
}
