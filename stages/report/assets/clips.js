// Clips, hardest first: the list, and the clip that is open.

const CHUNK = { wide: 60, narrow: 12 };

function clipsSection() {
  const state = { places: [], made: 0, current: null, opened: null };
  const list = el('ol', { class: 'list' });
  const more = el('button', { type: 'button', class: 'more', on: { click: () => extend(state.made + chunk()) } });
  const empty = el('p', { class: 'muted', text: 'No clip passes these filters.' });
  const column = el('div', { class: 'column' }, list, empty, more);
  const pane = el('div', { class: 'pane', role: 'region', 'aria-label': 'Open clip' });
  const chunk = () => (WIDE.matches ? CHUNK.wide : CHUNK.narrow);
  const rowOf = (place) => list.querySelector(`[data-place="${place}"]`);

  const extend = (wanted) => {
    const to = Math.min(wanted, state.places.length);
    if (to > state.made)
      list.append(
        ...state.places.slice(state.made, to).map((place) => clipRow(place, (picked) => pick(picked, !WIDE.matches))),
      );
    state.made = Math.max(state.made, to);
    const left = state.places.length - state.made;
    more.hidden = left === 0;
    more.textContent = `Show ${Math.min(left, chunk())} more of ${count(left)}`;
  };
  const refill = (places) => {
    Object.assign(state, { places, made: 0 });
    list.replaceChildren();
    column.scrollTop = 0;
    empty.hidden = places.length > 0;
    extend(chunk());
    mark();
  };
  const mark = () => {
    for (const row of list.querySelectorAll('[aria-current], [tabindex="0"]')) {
      row.removeAttribute('aria-current');
      row.tabIndex = -1;
    }
    const row = rowOf(state.current);
    row?.setAttribute('aria-current', 'true');
    const entry = row ?? list.querySelector('button');
    if (entry) entry.tabIndex = 0;
  };
  const pick = async (place, enter) => {
    state.current = place;
    mark();
    rowOf(place)?.scrollIntoView({ block: 'nearest' });
    const { detail, why } = await detailOf(place);
    if (state.current === place) show(place, detail, why, enter);
  };
  const show = (place, detail, why, enter) => {
    state.opened?.close();
    state.opened = openClip(DATA.clips[place], detail, why);
    pane.replaceChildren(heading(place), state.opened.node);
    node.classList.add('open');
    if (enter) pane.querySelector('h3').focus();
    state.opened.ready.then(() => state.current === place && (pane.dataset.ready = place));
  };
  const leave = () => {
    state.opened?.close();
    state.opened = null;
    pane.replaceChildren(hint());
    node.classList.remove('open');
    (rowOf(state.current) ?? list.querySelector('button'))?.focus();
  };
  const step = (by, enter) => {
    const at = state.places.indexOf(state.current);
    const to = at < 0 ? 0 : Math.max(0, Math.min(state.places.length - 1, at + by));
    if (!state.places.length) return;
    extend(to + 1);
    pick(state.places[to], enter);
    if (!enter) rowOf(state.places[to]).focus({ preventScroll: true });
  };
  const heading = (place) => {
    const clip = DATA.clips[place];
    const action = (text, label, run) =>
      el('button', { type: 'button', 'aria-label': label, on: { click: run }, text });
    return el(
      'header',
      { class: 'clip-head' },
      el('h3', { tabindex: '-1' }, named(clip.id)),
      el('p', {
        text: `${scoreText(clip)}, ${describe(clip)}${clip.held ? '' : ' \u2013 not in the cache, scored as empty'}`,
      }),
      el(
        'div',
        { class: 'moves' },
        action('Previous', 'Previous clip', () => step(-1, true)),
        action('Next', 'Next clip', () => step(1, true)),
        action('Close', 'Close the clip', leave),
      ),
    );
  };
  const hint = () =>
    el(
      'p',
      { class: 'hint' },
      'Choose a clip to see it. ',
      el('kbd', { text: '\u2191' }),
      ' ',
      el('kbd', { text: '\u2193' }),
      ' or ',
      el('kbd', { text: 'k' }),
      ' ',
      el('kbd', { text: 'j' }),
      ' walk through the list, ',
      el('kbd', { text: 'Space' }),
      ' on the timeline plays, ',
      el('kbd', { text: 'Esc' }),
      ' closes.',
    );

  const filters = makeFilters(refill);
  const node = section(
    'clips',
    'Clips, hardest first',
    legendOfStrips(),
    filters.node,
    el('div', { class: 'browser' }, column, pane),
  );
  pane.append(hint());
  filters.apply();
  node.addEventListener('keydown', (event) => keys(event, list, { step, leave, isOpen: () => state.opened !== null }));
  column.addEventListener('scroll', () => {
    if (WIDE.matches && column.scrollTop + column.clientHeight > column.scrollHeight - 400)
      extend(state.made + chunk());
  });
  openFirst(node, () => state.current === null && WIDE.matches && state.places.length && pick(state.places[0], false));
  return node;
}

/** Where there is room beside the list, the first clip opens by itself, but not before a reader comes near. */
function openFirst(node, open) {
  const watch = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watch.disconnect();
    open();
  });
  watch.observe(node);
}

/** Arrows in the list and j and k anywhere in the section walk; Escape closes. */
function keys(event, list, { step, leave, isOpen }) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches('select, input:not([type=checkbox])'))
    return;
  const inList = list.contains(event.target);
  const by = { j: 1, k: -1, ...(inList ? { ArrowDown: 1, ArrowUp: -1 } : {}) }[event.key];
  if (by !== undefined) step(by, !inList || !WIDE.matches);
  else if (event.key === 'Escape' && isOpen()) leave();
  else return;
  event.preventDefault();
}

/** The detail of a clip out of its block, which is parsed only now; or why there is none. */
async function detailOf(place) {
  const kept = DATA.clips.filter((clip) => clip.detail).length;
  const all = plural(DATA.clips.length, 'clip');
  if (!DATA.clips[place].detail) {
    return {
      detail: null,
      why: `To stay small, this page keeps media, attention and masks of ${kept} of ${all} only; --clips N keeps more.`,
    };
  }
  // The blocks come last in the file: while the browser is still reading, wait for it.
  if (document.readyState === 'loading')
    await new Promise((done) => document.addEventListener('DOMContentLoaded', done, { once: true }));
  const block = document.getElementById(`detail-${place}`);
  try {
    return { detail: JSON.parse(block.textContent), why: '' };
  } catch {
    return { detail: null, why: 'The file ends before the media of this clip: it was not written or copied whole.' };
  }
}

function legendOfStrips() {
  const events = 'Above the truth, below the prediction, segment by segment. Wrong segments are hatched.';
  const lanes =
    'A lane for each class that is heard, and for each that is seen. Filled: found; a dashed outline: missed; hatched: ' +
    'a false alarm. The score of a clip is its segment-level Type@AV.';
  const masks =
    'The overlap of prediction and truth (IoU, in percent) in every annotated segment. \u2205 and an outline: ' +
    'nothing is true there, and the official rule scores the background; hatched: something was painted all the ' +
    'same, a false alarm.';
  const maps =
    'The overlap of prediction and truth in every annotated segment: the mean IoU, in percent, over the classes that ' +
    'are predicted or true in it, background included. \u2205 and an outline: no object is true there; hatched: some ' +
    'were painted all the same. The official score averages class by class over all clips, so it is no mean of these.';
  const text = isParsing() ? lanes : isEvents() ? events : isClassMaps() ? maps : masks;
  return el('p', { class: 'lede', text });
}
