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

function isEvents() {
  return DATA.run.task === 'events';
}

/** Whether something in the clip went wrong: a wrong segment, or half of the object missed. */
function isWrong(clip) {
  return isEvents() ? clip.score < 1 : clip.score < 0.5;
}

function scoreText(clip) {
  return typeof clip.score === 'number' ? percent(clip.score, 0) : NONE;
}

/** The clip in words, for those who do not see the strips. */
function describe(clip) {
  if (!isEvents())
    return `mean IoU over ${plural(clip.iou.filter((value) => value !== null).length, 'annotated frame')}`;
  const right = clip.truth.filter((id, place) => id === clip.predicted[place]).length;
  return `${right} of ${plural(clip.segments, 'segment')} right`;
}

/** A segment in words. */
function describeSegment(clip, segment) {
  const name = `segment ${segment + 1}`;
  if (!isEvents()) {
    const value = clip.iou[segment];
    return `${name}: ${value === null || value === undefined ? 'not annotated' : `IoU ${percent(value)}`}`;
  }
  const sure = clip.certainty?.[segment];
  const tail = typeof sure === 'number' ? `, ${percent(sure, 0)} certain` : '';
  return `${name}: truth ${className(clip.truth[segment])}, predicted ${className(clip.predicted[segment])}${tail}`;
}
