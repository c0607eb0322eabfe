// The list of clips: filters, and rows that are made as they are needed.

const ALL_OPEN = DATA.clips.every((clip) => clip.detail);

/** The row of a clip; `pick` is called with the place of a clip in the data. */
function clipRow(place, pick) {
  const clip = DATA.clips[place];
  const strips = stripsOf(clip);
  const more = [clip.held ? '' : 'not in the cache', clip.detail ? '' : 'no media in this page'].filter(Boolean);
  const name = [clip.id, scoreText(clip), describe(clip), ...more].join(', ');
  const button = el(
    'button',
    {
      type: 'button',
      class: 'clip',
      tabindex: '-1',
      'aria-label': name,
      'data-place': place,
      on: { click: () => pick(place) },
    },
    el(
      'span',
      { class: 'top' },
      named(clip.id, { class: 'id' }),
      clip.held ? null : el('span', { class: 'tag', text: 'not in the cache' }),
      falseAlarms(clip, 0.01) ? el('span', { class: 'tag', text: 'false alarm' }) : null,
      clip.detail && !ALL_OPEN ? el('span', { class: 'tag', text: 'media' }) : null,
      el('span', { class: isWrong(clip) ? 'score low' : 'score', text: scoreText(clip) }),
    ),
    ...strips,
  );
  return el('li', {}, button);
}

/** A clip over time, small. */
function stripsOf(clip) {
  if (isParsing()) return laneGroups(clip);
  return isEvents() ? [classStrip(clip.truth), classStrip(clip.predicted, clip.truth)] : [maskStrip(clip)];
}

/** Classes that are true or predicted somewhere in a clip. */
function classIds(clip) {
  if (isParsing()) return [...new Set(everyLane(clip).map((lane) => lane.class))];
  if (isClassMaps()) return objectIds(clip);
  return isEvents() ? [...new Set([...clip.truth, ...clip.predicted])] : [];
}

/** What the clip can be found by. */
function haystack(clip) {
  return [clip.id, ...classIds(clip).map(className)].join('\n').toLowerCase();
}

/** Classes that are true or predicted in some clip. */
function classesOfClips() {
  return [...new Set(DATA.clips.flatMap(classIds))].sort((a, b) => a - b);
}

/** The filters; `changed` gets the places of the clips that pass, in order. */
function makeFilters(changed) {
  const hasClasses = !hasMasks() || isClassMaps();
  const text = el('input', {
    type: 'search',
    placeholder: hasClasses ? 'Name or class' : 'Name',
    'aria-label': 'Find clips by name or class',
  });
  const classes = el(
    'select',
    { 'aria-label': 'Class' },
    el('option', { value: '', text: 'All classes' }),
    ...classesOfClips().map((id) => el('option', { value: id, text: className(id) })),
  );
  const order = el(
    'select',
    { 'aria-label': 'Order' },
    el('option', { value: 'hard', text: 'Hardest first' }),
    el('option', { value: 'easy', text: 'Easiest first' }),
  );
  const wrong = el('input', { type: 'checkbox' });
  const media = el('input', { type: 'checkbox' });
  const found = el('p', { class: 'found', role: 'status' });
  const hay = DATA.clips.map(haystack);

  const passes = (clip, place) =>
    hay[place].includes(text.value.trim().toLowerCase()) &&
    (classes.value === '' || classIds(clip).includes(Number(classes.value))) &&
    (!wrong.checked || isWrong(clip)) &&
    (!media.checked || clip.detail);
  const apply = () => {
    const places = DATA.clips.map((_, place) => place).filter((place) => passes(DATA.clips[place], place));
    if (order.value === 'easy') places.reverse();
    found.textContent =
      places.length === DATA.clips.length
        ? plural(places.length, 'clip')
        : `${count(places.length)} of ${plural(DATA.clips.length, 'clip')}`;
    changed(places);
  };
  for (const control of [text, classes, order, wrong, media]) control.addEventListener('input', apply);
  const check = (box, label) => el('label', { class: 'check' }, box, el('span', { text: label }));
  const node = el(
    'div',
    { class: 'filters', role: 'search', 'aria-label': 'Clips' },
    text,
    hasClasses ? classes : null,
    order,
    check(wrong, hasMasks() ? 'IoU below one half, or a false alarm' : 'Wrong only'),
    ALL_OPEN ? null : check(media, 'With media'),
    found,
  );
  return { node, apply };
}
