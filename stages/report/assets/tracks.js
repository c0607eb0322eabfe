// The timeline of an open clip: strips one below the other on one axis, with a playhead that can be moved.

function makeTracks(clip, stage, detail, length, seek, toggle) {
  const head = el('div', { class: 'playhead', 'aria-hidden': 'true' });
  const slider = el(
    'div',
    {
      class: 'scrub',
      role: 'slider',
      tabindex: '0',
      'aria-label': 'Position in the clip',
      'aria-valuemin': 0,
      'aria-valuemax': length,
    },
    head,
  );
  const lines = [
    detail?.frames ? ['Frames', stage.film] : null,
    detail?.spectrogram ? ['Sound', stage.soundStrip] : null,
    ...answerLines(clip),
    ['Seconds', axis(clip.segments)],
  ].filter(Boolean);
  const node = el(
    'div',
    { class: 'tracks' },
    ...lines.flatMap(([name, strip]) => [el('span', { class: 'track-name', text: name }), strip]),
    slider,
  );

  const from = (event) => {
    const box = slider.getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width) * length);
  };
  slider.addEventListener('pointerdown', (event) => {
    slider.setPointerCapture(event.pointerId);
    from(event);
  });
  slider.addEventListener('pointermove', (event) => event.buttons & 1 && from(event));
  slider.addEventListener('keydown', (event) => {
    const second = DATA.segment_seconds;
    const at = Number(slider.dataset.segment);
    const to = {
      ArrowLeft: at - 1,
      ArrowDown: at - 1,
      ArrowRight: at + 1,
      ArrowUp: at + 1,
      Home: 0,
      End: clip.segments - 1,
    }[event.key];
    if (to !== undefined) seek(Math.max(0, Math.min(clip.segments - 1, to)) * second);
    else if (event.key === ' ') toggle();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  const show = (time, segment) => {
    head.style.setProperty('left', `${(100 * time) / length}%`);
    slider.dataset.segment = segment;
    slider.setAttribute('aria-valuenow', time.toFixed(1));
    slider.setAttribute('aria-valuetext', `${clock(time)}, ${describeSegment(clip, segment)}`);
  };
  return { node, show };
}

/** What is true and what was predicted, as lines of the timeline: [name, strip]. */
function answerLines(clip) {
  if (isParsing()) return laneLines(clip);
  if (!isEvents()) return [['IoU', maskStrip(clip, true)]];
  return [
    ['Truth', classStrip(clip.truth)],
    ['Predicted', classStrip(clip.predicted, clip.truth, true)],
    clip.certainty ? ['Certainty', barStrip(clip.certainty, 'certainty')] : null,
  ];
}

/** Seconds where segments begin, as many as stay readable. */
function axis(segments) {
  const step = [1, 2, 5, 10, 20, 30, 60].find((value) => segments / value <= 12) ?? 60;
  const marks = Array.from({ length: Math.ceil(segments / step) }, (_, i) => i * step);
  const cell = (t) =>
    el('span', {
      style: { 'grid-column': `${t + 1} / span ${Math.min(step, segments - t)}` },
      text: significant(t * DATA.segment_seconds, 4),
    });
  return el(
    'span',
    { class: 'strip axis', style: { '--segments': segments }, 'aria-hidden': 'true' },
    ...marks.map(cell),
  );
}

/** What an annotation holds, in a word. */
function truthOf(clip, segment) {
  if (typeof clip.iou[segment] !== 'number') return NONE;
  return isEmpty(clip, segment) ? 'nothing' : 'object';
}

/** Every segment in words and numbers. */
function segmentTable(clip) {
  const second = DATA.segment_seconds;
  const start = (t) => `${significant(t * second, 4)} s`;
  const list = Array.from({ length: clip.segments }, (_, t) => t);
  const eventRows = () =>
    list.map((t) => [
        String(t + 1),
        start(t),
        named(className(clip.truth[t]), { class: 'class-name' }),
        named(className(clip.predicted[t]), { class: 'class-name' }),
        clip.truth[t] === clip.predicted[t] ? 'right' : 'wrong',
        ...(clip.certainty ? [percent(clip.certainty[t])] : []),
    ]);
  const eventHead = ['Segment', 'From', 'Truth', 'Predicted', 'Verdict', ...(clip.certainty ? ['Certainty'] : [])];
  const maskRows = () =>
    list.map((t) => [String(t + 1), start(t), percent(clip.iou[t]), truthOf(clip, t), percent(clip.painted?.[t])]);
  const [head, rows] = isParsing()
    ? [LANE_HEAD, laneRows(clip, start)]
    : isEvents()
      ? [eventHead, eventRows()]
      : isClassMaps()
        ? [CLASS_HEAD, classRows(clip, start)]
        : [['Segment', 'From', 'IoU', 'Truth', 'Painted'], maskRows()];
  const label = 'Every segment, in numbers';
  return el('details', {}, el('summary', { text: label }), scroller(label, table(head, rows, { class: 'numbers' })));
}
