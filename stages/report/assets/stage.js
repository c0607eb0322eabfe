// The pictures of an open clip: the large frame, the spectrogram of its segment, and both as strips over time.

const FILM_HEIGHT = 96;

/** Fits a canvas to its box on the screen; null while it has none. */
function fitted(canvas) {
  const scale = Math.min(3, window.devicePixelRatio || 1);
  const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
  if (!width || !height) return null;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext('2d');
  context.clearRect(0, 0, width, height);
  return { context, box: { x: 0, y: 0, width, height } };
}

/** The largest box of a shape in the middle of a cell, a pixel off its neighbours. */
function inside(cell, aspect) {
  const width = Math.min(cell.width - 2, cell.height * aspect);
  const height = width / aspect;
  return { x: cell.x + (cell.width - width) / 2, y: cell.y + (cell.height - height) / 2, width, height };
}

/**
 * The pictures of a clip.
 *
 * `view` says what to paint: {segment, picture: 'video' | 'frame', masks, visual, audio, opacity}. Pictures are decoded
 * after opening; `draw` may be called at any time and paints what is there.
 */
function makeStage(clip, detail, view) {
  const screen = el('div', { class: 'screen' });
  const frame = el('canvas', { class: 'frame', role: 'img', 'aria-label': 'Frame of the segment with its overlays' });
  const sound = el('canvas', { class: 'spectrogram', role: 'img', 'aria-label': 'Spectrogram of the segment' });
  const film = el('canvas', { class: 'film', 'aria-hidden': 'true' });
  const soundStrip = el('canvas', { class: 'sound-strip', 'aria-hidden': 'true' });
  const maps = Object.fromEntries(Object.entries(detail.attention ?? {}).map(([name, one]) => [name, readMaps(one)]));
  const held = { frames: [], spectrogram: [], masks: null };
  screen.append(frame);
  const [rows, columns] = detail.frame_size ?? [3, 4];
  const panes = el('div', { class: 'panes' });
  const colours = isClassMaps() ? classColours(clip) : null;
  let aspect = 1;
  const shape = (width, height) => {
    aspect = width / height;
    panes.style.setProperty('--aspect', aspect);
  };
  shape(columns, rows);

  const overlay = (context, segment, box) => {
    const paint = isClassMaps() ? paintClasses : paintMasks;
    if (detail.masks) paint(context, held.masks?.[segment], view.masks, box, colours);
    const { visual } = view;
    const map = visual?.on ? maps.visual.at(segment, visual.layer, visual.mechanism) : null;
    if (map) paintMap(context, map.values, map.rows, map.columns, box, view.opacity, false);
  };
  const heard = (context, segment, box) => {
    const picture = held.spectrogram[segment];
    context.imageSmoothingEnabled = true;
    if (picture) context.drawImage(picture, box.x, box.y, box.width, box.height);
    const { audio } = view;
    const map = audio?.on ? maps.audio.at(segment, audio.layer, audio.mechanism) : null;
    if (map) paintMap(context, map.values, map.rows, map.columns, box, view.opacity, true);
  };
  const seen = (context, segment, box) => {
    const picture = held.frames[segment];
    context.imageSmoothingEnabled = true;
    if (picture) context.drawImage(picture, box.x, box.y, box.width, box.height);
    overlay(context, segment, box);
  };

  const drawStrip = (canvas, pictures, paint, step) => {
    const fit = pictures.length ? fitted(canvas) : null;
    if (!fit) return;
    const wide = fit.box.width / clip.segments;
    for (let segment = 0; segment < clip.segments; segment += step) {
      const cell = {
        x: segment * wide,
        y: 0,
        width: wide * Math.min(step, clip.segments - segment),
        height: fit.box.height,
      };
      paint(fit.context, segment, paint === seen ? inside(cell, aspect) : cell);
    }
  };
  const drawStrips = () => {
    // Frames narrower than 28 pixels say nothing: then every second, third, ... is shown, as wide as its neighbours.
    const step = Math.max(1, Math.ceil((28 * clip.segments) / Math.max(1, film.clientWidth)));
    film.style.setProperty('height', `${Math.min(FILM_HEIGHT, (step * film.clientWidth) / clip.segments / aspect)}px`);
    drawStrip(film, held.frames, seen, step);
    drawStrip(soundStrip, held.spectrogram, heard, 1);
  };
  const draw = () => {
    const large = fitted(frame);
    if (large) (view.picture === 'frame' ? seen : overlay)(large.context, view.segment, large.box);
    const beside = held.spectrogram.length ? fitted(sound) : null;
    if (beside) heard(beside.context, view.segment, beside.box);
  };

  let open = true;
  const loaded = Promise.all([
    bitmaps(detail.frames, 'image/jpeg').then((list) => (held.frames = list)),
    bitmaps(detail.spectrogram, 'image/png').then((list) => (held.spectrogram = list)),
    detail.masks ? readMasks(detail.masks).then((list) => (held.masks = list)) : null,
  ]).then(() => {
    if (!open) return release();
    draw();
    return drawStrips();
  });
  const release = () => {
    for (const bitmap of [...held.frames, ...held.spectrogram]) bitmap?.close();
    Object.assign(held, { frames: [], spectrogram: [], masks: null });
  };
  const watch = new ResizeObserver(() => (draw(), drawStrips()));
  watch.observe(screen);
  watch.observe(film);
  const close = () => {
    open = false;
    watch.disconnect();
    release();
  };
  return { panes, screen, sound, film, soundStrip, maps, shape, draw, drawStrips, loaded, close };
}
