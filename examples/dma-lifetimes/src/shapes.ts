/** Red, green, blue: 0..255. */
export type Colour = readonly [red: number, green: number, blue: number];

/** What a chart is made of; positions in pixels from the top left. */
export type Shape =
  | {
      readonly kind: 'line';
      readonly points: readonly (readonly [x: number, y: number])[];
      readonly colour: Colour;
      readonly width: number;
      readonly dashed?: boolean;
    }
  | {
      readonly kind: 'text';
      readonly at: readonly [x: number, y: number];
      readonly text: string;
      readonly colour: Colour;
    };

export interface Drawing {
  readonly width: number;
  readonly height: number;
  readonly shapes: readonly Shape[];
}
