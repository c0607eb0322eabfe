// A clip over time as strips of segments: classes of truth and prediction, or overlap frame by frame.

const TINTS = 8;

/** Neighbours with the same class and the same verdict, as one piece: [{first, length, id, wrong}]. */
function pieces(ids, truth) {
  const out = [];
  ids.forEach((id, place) => {
    const wrong = truth !== null && truth[place] !== id;
    const last = out.at(-1);
    if (last && last.id === id && last.wrong === wrong) last.length += 1;
    else out.push({ first: place, length: 1, id, wrong });
  });
  return out;
}

function tint(id) {
  return className(id).toLowerCase() === 'background' ? 'none' : `tint-${id % TINTS}`;
}

/** Classes over time; with `truth`, wrong pieces are hatched, and carry a cross if there is room for it. */
function classStrip(ids, truth = null, room = false) {
  const cells = pieces(ids, truth).map((piece) => {
    const name = className(piece.id);
    const kind = `piece ${tint(piece.id)}${piece.wrong ? ' wrong' : ''}${piece.length === 1 ? ' short' : ''}`;
    const style = { 'grid-column': `${piece.first + 1} / span ${piece.length}` };
    return el(
      'span',
      { class: kind, title: piece.wrong ? `${name} (wrong)` : name, style },
      el('span', { text: piece.wrong && room ? `\u00d7 ${name}` : name }),
    );
  });
  return el('span', { class: 'strip', style: { '--segments': ids.length }, 'aria-hidden': 'true' }, ...cells);
}

/** One bar a segment, 0 to 1; hatched where the value is not known. */
function barStrip(values, title) {
  const cells = values.map((value) => {
    const known = value !== null && value !== undefined;
    const text = known ? fixed(100 * value, 0) : NONE;
    const label = known ? `${title} ${percent(value)}` : `${title}: not annotated`;
    return el(
      'span',
      { class: known ? 'level' : 'level unknown', title: label, style: { '--level': known ? value : 0 } },
      el('span', { text }),
    );
  });
  return el('span', { class: 'strip levels', style: { '--segments': values.length }, 'aria-hidden': 'true' }, ...cells);
}

/** Overlap segment by segment; where nothing is true, the bar is an outline, hatched where something was painted. */
function maskStrip(clip, room = false) {
  const cells = clip.iou.map((value, segment) => {
    const known = typeof value === 'number';
    const kind = [
      'level',
      known ? '' : 'unknown',
      isEmpty(clip, segment) ? 'bare' : '',
      painted(clip, segment) > 0 ? 'alarm' : '',
    ];
    const said = painted(clip, segment) > 0 ? `${share(painted(clip, segment))} painted` : 'empty';
    const bare = room ? said : '\u2205';
    const text = !known ? NONE : isEmpty(clip, segment) ? bare : fixed(100 * value, 0);
    return el(
      'span',
      { class: kind.filter(Boolean).join(' '), title: overlap(clip, segment), style: { '--level': known ? value : 0 } },
      el('span', { text }),
    );
  });
  return el('span', { class: 'strip levels', style: { '--segments': cells.length }, 'aria-hidden': 'true' }, ...cells);
}

/** Whether the true mask of an annotated segment has nothing in it. */
function isEmpty(clip, segment) {
  return clip.empty?.[segment] === true;
}

/** What share of a segment was painted although nothing is true there. */
function painted(clip, segment) {
  return isEmpty(clip, segment) ? (clip.painted?.[segment] ?? 0) : 0;
}

/** Segments with a false alarm over more than `least` of the picture. */
function falseAlarms(clip, least = 0) {
  return hasMasks() ? clip.iou.filter((_, segment) => painted(clip, segment) > least).length : 0;
}

/** The overlap of a segment in words; without anything true, the official score is that of the background. */
function overlap(clip, segment) {
  if (isClassMaps()) return describeClasses(clip, segment);
  const value = clip.iou[segment];
  if (typeof value !== 'number') return 'not annotated';
  if (!isEmpty(clip, segment)) return `IoU ${percent(value)}`;
  const wrong = painted(clip, segment);
  const said = wrong > 0 ? `false alarm, ${share(wrong)} painted` : 'nothing painted';
  return `nothing is true here; ${said}; scored on the background, ${percent(value)}`;
}

function isEvents() {
  return DATA.run.task === 'events';
}

function hasMasks() {
  return !isEvents() && !isParsing();
}

/** Whether something went wrong: a wrong segment, half of the object missed, or a false alarm that can be seen. */
function isWrong(clip) {
  return !hasMasks() ? clip.score < 1 : clip.score < 0.5 || falseAlarms(clip, 0.01) > 0;
}

function scoreText(clip) {
  return typeof clip.score === 'number' ? percent(clip.score, 0) : NONE;
}

/** The clip in words, for those who do not see the strips. */
function describe(clip) {
  if (isParsing()) return describeLanes(clip);
  if (hasMasks()) {
    const frames = plural(clip.iou.filter((value) => value !== null).length, 'annotated frame');
    const bare = clip.iou.filter((_, segment) => isEmpty(clip, segment)).length;
    const alarms = falseAlarms(clip);
    const more = [bare ? `${count(bare)} with nothing true` : '', alarms ? plural(alarms, 'false alarm') : ''];
    return [`mean IoU over ${frames}`, ...more.filter(Boolean)].join(', ');
  }
  const right = clip.truth.filter((id, place) => id === clip.predicted[place]).length;
  return `${right} of ${plural(clip.segments, 'segment')} right`;
}

/** A segment in words. */
function describeSegment(clip, segment) {
  const name = `segment ${segment + 1}`;
  if (isParsing()) return `${name}: ${describeLaneSegment(clip, segment)}`;
  if (hasMasks()) return `${name}: ${overlap(clip, segment)}`;
  const sure = clip.certainty?.[segment];
  const tail = typeof sure === 'number' ? `, ${percent(sure, 0)} certain` : '';
  const [truth, predicted] = [clip.truth, clip.predicted].map((ids) => isolated(className(ids[segment])));
  return `${name}: truth ${truth}, predicted ${predicted}${tail}`;
}
