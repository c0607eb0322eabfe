// Masks of objects: truth, prediction, and where they differ.

const MASK_VIEWS = [
  ['frame', 'Frame'],
  ['truth', 'Truth'],
  ['predicted', 'Prediction'],
  ['both', 'Both'],
  ['errors', 'Errors'],
  ['probability', 'Probability'],
];
// Colours that stay apart for colour-blind eyes, bright enough for any frame.
const MASK_COLOURS = {
  truth: [240, 228, 66],
  predicted: [86, 180, 233],
  hit: [0, 190, 140],
  miss: [240, 228, 66],
  alarm: [225, 90, 10],
};
const MASK_LEGENDS = {
  frame: [],
  truth: [['truth', 'true outline']],
  predicted: [['predicted', 'predicted, probability above one half']],
  both: [
    ['truth', 'true outline'],
    ['predicted', 'predicted'],
  ],
  errors: [
    ['hit', 'hit'],
    ['miss', 'missed'],
    ['alarm', 'false alarm'],
  ],
  probability: [],
};

/** The grey values of a mask picture, or null. */
async function readMask(bitmap) {
  if (!bitmap) return null;
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const values = new Uint8Array(width * height);
  for (let i = 0; i < values.length; i++) values[i] = data[4 * i];
  return { width, height, values };
}

/** Both masks of every segment: [{truth, predicted}]. */
async function readMasks(masks) {
  const [truth, predicted] = await Promise.all([
    bitmaps(masks.truth, 'image/png'),
    bitmaps(masks.predicted, 'image/png'),
  ]);
  const read = (list) => Promise.all(list.map(readMask));
  const [first, second] = await Promise.all([read(truth), read(predicted)]);
  for (const bitmap of [...truth, ...predicted]) bitmap?.close();
  const segments = Math.max(first.length, second.length);
  return Array.from({ length: segments }, (_, t) => ({ truth: first[t] ?? null, predicted: second[t] ?? null }));
}

/** Paints the masks of a segment in one of the views; says nothing where a mask is missing. */
function paintMasks(context, pair, view, box) {
  if (!pair || view === 'frame') return;
  const { truth, predicted } = pair;
  if (view === 'probability' && predicted) {
    return paintMap(context, predicted.values, predicted.height, predicted.width, box, 0.8, false);
  }
  if (view === 'errors') {
    if (truth && predicted) paintErrors(context, truth, predicted, box);
    return undefined;
  }
  if ((view === 'predicted' || view === 'both') && predicted) {
    paintFill(context, predicted, (on) => (on ? MASK_COLOURS.predicted : null), box, 0.5);
    paintOutline(context, predicted, MASK_COLOURS.predicted, box);
  }
  if ((view === 'truth' || view === 'both') && truth) paintOutline(context, truth, MASK_COLOURS.truth, box);
  return undefined;
}

function paintErrors(context, truth, predicted, box) {
  const colour = (on, place) => {
    const real = truth.values[place] > 127;
    return on ? (real ? MASK_COLOURS.hit : MASK_COLOURS.alarm) : real ? MASK_COLOURS.miss : null;
  };
  paintFill(context, predicted, colour, box, 0.68);
  paintOutline(context, truth, MASK_COLOURS.truth, box);
}

function paintFill(context, mask, colourOf, box, opacity) {
  const pixels = new Uint8ClampedArray(mask.values.length * 4);
  mask.values.forEach((value, place) => {
    const colour = colourOf(value > 127, place);
    if (colour) pixels.set([...colour, 255 * opacity], 4 * place);
  });
  paintPixels(context, pixels, mask.width, mask.height, box);
}

/** Strokes the edges between pixels inside and outside, coloured on dark, so that they show on any frame. */
function paintOutline(context, mask, colour, box) {
  const { width, height, values } = mask;
  const inside = (row, column) =>
    row >= 0 && column >= 0 && row < height && column < width && values[row * width + column] > 127;
  const [sx, sy] = [box.width / width, box.height / height];
  const path = new Path2D();
  for (let row = 0; row <= height; row++) {
    for (let column = 0; column <= width; column++) {
      const here = inside(row, column);
      const [x, y] = [box.x + column * sx, box.y + row * sy];
      if (here !== inside(row - 1, column)) edge(path, x, y, x + sx, y);
      if (here !== inside(row, column - 1)) edge(path, x, y, x, y + sy);
    }
  }
  const thin = Math.max(1, box.width / 220);
  context.lineCap = 'square';
  context.strokeStyle = 'rgb(0 0 0 / 60%)';
  context.lineWidth = 2.6 * thin;
  context.stroke(path);
  context.strokeStyle = `rgb(${colour.join(' ')})`;
  context.lineWidth = 1.3 * thin;
  context.stroke(path);
}

function edge(path, x0, y0, x1, y1) {
  path.moveTo(x0, y0);
  path.lineTo(x1, y1);
}

/** What the colours of a view mean. */
function maskLegend(view) {
  const entry = ([key, text]) => el('span', {}, el('i', { class: `swatch ${key}`, 'aria-hidden': 'true' }), text);
  return [...MASK_LEGENDS[view].map(entry), ...(view === 'probability' ? [heatScale('0', '1')] : [])];
}

/** The choice of views, as [value, text], with its legend. */
function maskSwitches(start, changed, views = MASK_VIEWS, legendOf = maskLegend) {
  const legend = el('p', { class: 'legend' });
  const show = (view) => legend.replaceChildren(...legendOf(view));
  const options = views.map(([value, text]) =>
    el(
      'label',
      {},
      el('input', {
        type: 'radio',
        name: 'mask-view',
        value,
        checked: value === start,
        on: { change: () => (show(value), changed(value)) },
      }),
      el('span', { text }),
    ),
  );
  show(start);
  return el(
    'fieldset',
    { class: 'views' },
    el('legend', { text: 'Masks' }),
    el('div', { class: 'segmented' }, ...options),
    legend,
  );
}

function heatScale(low, high) {
  return el('span', { class: 'heat' }, low, el('i', { 'aria-hidden': 'true' }), high);
}
