// Class maps: which class a pixel has, in truth and prediction, and where they differ.

const CLASS_VIEWS = MASK_VIEWS.filter(([value]) => value !== 'probability');
// The hues of the strips, bright enough for any frame.
const CLASS_COLOURS = [
  [0, 114, 220],
  [240, 165, 0],
  [0, 190, 140],
  [230, 130, 185],
  [110, 200, 245],
  [240, 228, 66],
  [150, 105, 215],
  [150, 165, 90],
];
const OTHER_CLASS = [230, 130, 185];

function isClassMaps() {
  return DATA.run.task === 'semantic';
}

/** Classes but background that are true or predicted somewhere in a clip. */
function objectIds(clip) {
  return [...new Set([...clip.true, ...clip.predicted].flatMap((ids) => ids ?? []))].sort((a, b) => a - b);
}

/** Colours of a clip's classes: that of the id in all clips alike, unless another class of the clip has it. */
function classColours(clip) {
  const taken = new Map();
  for (const id of objectIds(clip)) {
    const order = CLASS_COLOURS.map((_, step) => (id + step) % CLASS_COLOURS.length);
    const free = order.find((place) => ![...taken.values()].includes(place)) ?? order[0];
    taken.set(id, free);
  }
  return new Map([...taken].map(([id, place]) => [id, CLASS_COLOURS[place]]));
}

/** Paints the class maps of a segment in one of the views; says nothing where one is missing. */
function paintClasses(context, pair, view, box, colours) {
  if (!pair || view === 'frame') return;
  const { truth, predicted } = pair;
  const shown = view === 'truth' ? truth : predicted;
  if (view === 'errors') {
    if (truth && predicted) paintWrong(context, truth, predicted, box);
  } else if (shown) {
    paintIds(context, shown, (place) => colours.get(shown.values[place]), box, 0.55);
  }
  const outlined = view === 'predicted' ? predicted : truth;
  if (!outlined) return;
  for (const [id, colour] of colours) {
    const only = (value) => (value === id ? 255 : 0);
    if (outlined.values.includes(id))
      paintOutline(context, { ...outlined, values: outlined.values.map(only) }, colour, box);
  }
}

function paintWrong(context, truth, predicted, box) {
  const colour = (place) => {
    const [real, said] = [truth.values[place], predicted.values[place]];
    if (real === said) return real ? MASK_COLOURS.hit : null;
    return real ? (said ? OTHER_CLASS : MASK_COLOURS.miss) : MASK_COLOURS.alarm;
  };
  paintIds(context, truth, colour, box, 0.68);
}

function paintIds(context, map, colourOf, box, opacity) {
  const pixels = new Uint8ClampedArray(map.values.length * 4);
  for (let place = 0; place < map.values.length; place++) {
    const colour = colourOf(place);
    if (colour) pixels.set([...colour, 255 * opacity], 4 * place);
  }
  paintPixels(context, pixels, map.width, map.height, box);
}

/** The classes of a clip by colour, or what the colours of the errors mean. */
function classLegend(view, colours) {
  const entry = (colour, text) =>
    el(
      'span',
      {},
      el('i', { class: 'swatch', 'aria-hidden': 'true', style: { 'background-color': `rgb(${colour.join(' ')})` } }),
      text,
    );
  if (view === 'frame') return [];
  if (view !== 'errors') {
    const how = { truth: 'Filled: true.', predicted: 'Filled: predicted.', both: 'Filled: predicted; outlined: true.' };
    return [how[view], ...[...colours].map(([id, colour]) => entry(colour, named(className(id))))];
  }
  return [
    entry(MASK_COLOURS.hit, 'right class'),
    entry(OTHER_CLASS, 'another class'),
    entry(MASK_COLOURS.miss, 'missed'),
    entry(MASK_COLOURS.alarm, 'false alarm'),
  ];
}

function namesOf(ids) {
  return ids.length ? ids.map((id) => isolated(className(id))).join(', ') : 'nothing';
}

/** A segment in words. */
function describeClasses(clip, segment) {
  const said = `predicted ${namesOf(clip.predicted[segment])}`;
  if (typeof clip.iou[segment] !== 'number') return `not annotated; ${said}`;
  return `mean IoU of its classes ${percent(clip.iou[segment])}; true ${namesOf(clip.true[segment])}; ${said}`;
}

const CLASS_HEAD = ['Segment', 'From', 'Mean IoU', 'Truth', 'Predicted'];

/** Rows of the table of segments. */
function classRows(clip, start) {
  const names = (ids) => el('span', { class: 'class-name', text: ids === null ? NONE : namesOf(ids) });
  return clip.iou.map((value, t) => [
    String(t + 1),
    start(t),
    percent(value),
    names(clip.true[t]),
    names(clip.predicted[t]),
  ]);
}
