// Attention maps: how they are stored, and how they are painted over a picture.

// A dark-to-bright scale whose lightness rises evenly, so that it reads without colour too.
const HEAT = [
  [0, 0, 4],
  [31, 12, 72],
  [85, 15, 109],
  [136, 34, 106],
  [186, 54, 85],
  [227, 89, 51],
  [249, 140, 10],
  [249, 201, 50],
  [252, 255, 164],
];
const HEAT_TABLE = Uint8Array.from({ length: 256 * 3 }, (_, i) => {
  const at = (Math.floor(i / 3) / 255) * (HEAT.length - 1);
  const low = Math.min(HEAT.length - 2, Math.floor(at));
  return Math.round(HEAT[low][i % 3] + (at - low) * (HEAT[low + 1][i % 3] - HEAT[low][i % 3]));
});

const scratch = document.createElement('canvas').getContext('2d', { willReadFrequently: true });

/** Paints RGBA pixels of a small picture into a box of a canvas, pixel by pixel as they are. */
function paintPixels(context, pixels, width, height, box, smooth = false) {
  scratch.canvas.width = width;
  scratch.canvas.height = height;
  scratch.putImageData(new ImageData(pixels, width, height), 0, 0);
  context.imageSmoothingEnabled = smooth;
  context.drawImage(scratch.canvas, box.x, box.y, box.width, box.height);
}

/** The maps of a modality: `at(segment, layer, mechanism)` gives {values, rows, columns}, values of 0 to 255, or null. */
function readMaps(attention) {
  const mechanisms = attention.mechanisms.length;
  const layers = attention.maps.map(bytesOf);
  const at = (segment, layer, mechanism) => {
    const [rows, columns] = attention.grids[layer];
    const first = (segment * mechanisms + mechanism) * rows * columns;
    const values = layers[layer].subarray(first, first + rows * columns);
    return values.length === rows * columns ? { values, rows, columns } : null;
  };
  return { ...attention, at };
}

/** Paints one map, fainter where it is low, so that the picture shows; `upward` when row 0 is the lowest. */
function paintMap(context, map, rows, columns, box, opacity, upward) {
  const pixels = new Uint8ClampedArray(rows * columns * 4);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const value = map[(upward ? rows - 1 - row : row) * columns + column];
      const to = (row * columns + column) * 4;
      pixels[to] = HEAT_TABLE[value * 3];
      pixels[to + 1] = HEAT_TABLE[value * 3 + 1];
      pixels[to + 2] = HEAT_TABLE[value * 3 + 2];
      pixels[to + 3] = 255 * opacity * (0.2 + (0.8 * value) / 255);
    }
  }
  paintPixels(context, pixels, columns, rows, box);
}

/** Switches of one modality's attention; `changed` gets the state after each change: {on, layer, mechanism}. */
function attentionSwitches(modality, maps, changed) {
  const state = { on: false, layer: maps.taps.length - 1, mechanism: 0 };
  const choose = (label, key, options) =>
    el(
      'label',
      {},
      el('span', { text: label }),
      el(
        'select',
        { on: { change: (event) => set({ [key]: Number(event.target.value), on: true }) } },
        ...options.map((text, value) => el('option', { value, text, selected: value === state[key] })),
      ),
    );
  const gate = el('output', { class: 'gate', title: GATE });
  const showGate = () => {
    const value = gateOf(maps, state);
    gate.hidden = value === null;
    gate.textContent = value === null ? '' : `gate ${significant(value, 2)}`;
  };
  const box = el('input', { type: 'checkbox', on: { change: () => set({ on: box.checked }) } });
  const set = (change) => {
    Object.assign(state, change);
    box.checked = state.on;
    showGate();
    changed(state);
  };
  const node = el(
    'fieldset',
    { class: 'switches', 'data-modality': modality },
    el('legend', {}, el('label', {}, box, el('span', { text: `${capital(modality)} attention` }))),
    choose('Layer', 'layer', layerNames(maps)),
    choose(
      'Mechanism',
      'mechanism',
      maps.mechanisms.map((one) => one.label.split(': ')[0]),
    ),
    gate,
    el('p', { class: 'muted', text: capital(`${maps.mechanisms.map((one) => one.label).join('; ')}.`) }),
  );
  showGate();
  return { node, state };
}

/** Taps by name, with their grid where that differs from tap to tap. */
function layerNames(maps) {
  const sizes = maps.grids.map((grid) => grid.join(' \u00d7 '));
  return maps.taps.map((tap, layer) => (new Set(sizes).size > 1 ? `${tap} (${sizes[layer]})` : tap));
}

const GATE = 'Mean absolute gate of this layer: what the mechanism finds is scaled by it, so near 0 it hardly counts.';

/** The gate that scales what the chosen mechanism adds; null where it has none, or the report does not say. */
function gateOf(maps, state) {
  if (maps.mechanisms[state.mechanism]?.key !== 'adapted') return null;
  const value = maps.gate?.[maps.taps[state.layer]];
  return typeof value === 'number' ? value : null;
}

/** What share of the attention lies on tokens that stand for no patch, as a class token does; empty for none. */
function prefixText(maps, segment, state) {
  const share = maps.prefix_share?.[segment]?.[state.layer]?.[state.mechanism];
  return typeof share === 'number' && share > 0
    ? `${percent(share, 0)} of the attention lies on tokens that stand for no patch, outside the map.`
    : '';
}
