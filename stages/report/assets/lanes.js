// Video parsing: what is heard and what is seen in a clip, a lane for each class, truth and prediction in one.

const SENSES = [
  ['audio', 'heard'],
  ['visual', 'seen'],
];
const LANE_WORDS = { hit: '', miss: 'missed', alarm: 'false alarm', none: '' };
const MOST_LANES = 3;

function isParsing() {
  return DATA.run.task === 'parsing';
}

/** Every lane of a clip with its modality. */
function everyLane(clip) {
  return SENSES.flatMap(([modality]) => clip.lanes[modality]);
}

/** What a lane says of a segment. */
function laneState(lane, segment) {
  if (lane.truth[segment]) return lane.predicted[segment] ? 'hit' : 'miss';
  return lane.predicted[segment] ? 'alarm' : 'none';
}

/** Neighbours of the same state as one piece: [{first, length, state}]. */
function lanePieces(lane) {
  const out = [];
  lane.truth.forEach((_, segment) => {
    const state = laneState(lane, segment);
    const last = out.at(-1);
    if (last && last.state === state) last.length += 1;
    else out.push({ first: segment, length: 1, state });
  });
  return out;
}

/** A lane over time: found pieces are filled, missed ones outlined, false alarms hatched. */
function laneStrip(lane) {
  const name = className(lane.class);
  const cells = lanePieces(lane).map(({ first, length, state }) => {
    const kind = { hit: tint(lane.class), miss: `missed ${tint(lane.class)}`, alarm: 'wrong', none: 'none' }[state];
    const text = { hit: name, miss: name, alarm: `\u00d7 ${name}`, none: '' }[state];
    const title = LANE_WORDS[state] ? `${name} (${LANE_WORDS[state]})` : state === 'none' ? `no ${name}` : name;
    return el(
      'span',
      {
        class: `piece ${kind}${length === 1 ? ' short' : ''}`,
        title,
        style: { 'grid-column': `${first + 1} / span ${length}` },
      },
      el('span', { text }),
    );
  });
  return el('span', { class: 'strip', style: { '--segments': lane.truth.length }, 'aria-hidden': 'true' }, ...cells);
}

/** The strip of a modality in which nothing is true and nothing was predicted. */
function bareLane(segments) {
  const cell = el('span', { class: 'piece none', style: { 'grid-column': '1 / -1' } }, el('span', { text: 'nothing' }));
  return el('span', { class: 'strip', style: { '--segments': segments }, 'aria-hidden': 'true' }, cell);
}

/** Both modalities of a clip for the list: the first few lanes of each, true classes first. */
function laneGroups(clip) {
  return SENSES.map(([modality, word]) => {
    const lanes = clip.lanes[modality];
    const strips = lanes.length ? lanes.slice(0, MOST_LANES).map(laneStrip) : [bareLane(clip.segments)];
    const more = lanes.length - MOST_LANES;
    return el(
      'span',
      { class: 'lane-group', 'aria-hidden': 'true' },
      el('span', { class: 'track-name', text: word }),
      el(
        'span',
        { class: 'lanes' },
        ...strips,
        more > 0 ? el('span', { class: 'track-name', text: `and ${plural(more, 'more class', 'more classes')}` }) : null,
      ),
    );
  });
}

/** Lanes of an open clip as lines of its timeline: [name, strip]. */
function laneLines(clip) {
  return SENSES.flatMap(([modality, word]) => {
    const strips = clip.lanes[modality].map(laneStrip);
    return (strips.length ? strips : [bareLane(clip.segments)]).map((strip) => [capital(word), strip]);
  });
}

/** How often each state occurs in a clip, a class in a segment counting once. */
function laneCounts(clip) {
  const counts = { hit: 0, miss: 0, alarm: 0, none: 0 };
  for (const lane of everyLane(clip)) lane.truth.forEach((_, segment) => (counts[laneState(lane, segment)] += 1));
  return counts;
}

/** The clip in words: a class that is on in a segment counts once for each modality. */
function describeLanes(clip) {
  const { hit, miss, alarm } = laneCounts(clip);
  const found = hit + miss ? `${count(hit)} of ${count(hit + miss)} heard or seen found` : 'nothing heard or seen';
  return alarm ? `${found}, ${plural(alarm, 'false alarm')}` : found;
}

/** What is heard and seen in a segment, in words. */
function describeLaneSegment(clip, segment) {
  return SENSES.map(([modality, word]) => {
    const said = clip.lanes[modality]
      .filter((lane) => laneState(lane, segment) !== 'none')
      .map((lane) => {
        const note = LANE_WORDS[laneState(lane, segment)];
        return isolated(className(lane.class)) + (note ? ` (${note})` : '');
      });
    return `${word}: ${said.join(', ') || 'nothing'}`;
  }).join('; ');
}

/** Rows of the table of segments: a class of a modality in a segment where it is true or predicted. */
function laneRows(clip, start) {
  const rows = [];
  for (let segment = 0; segment < clip.segments; segment++) {
    for (const [modality, word] of SENSES) {
      for (const lane of clip.lanes[modality]) {
        const state = laneState(lane, segment);
        if (state === 'none') continue;
        const verdict = LANE_WORDS[state] || 'found';
        const name = named(className(lane.class), { class: 'class-name' });
        const chances = [percent(lane.chance[segment]), percent(lane.whole)];
        rows.push([String(segment + 1), start(segment), word, name, verdict, ...chances]);
      }
    }
  }
  return rows;
}

const LANE_HEAD = ['Segment', 'From', 'Sense', 'Class', 'Verdict', 'Probability', 'In the whole clip'];

/** How each class fares over the whole split. */
function classesSection() {
  const found = DATA.class_scores;
  if (!found?.length) return null;
  const cell = (one) =>
    el(
      'span',
      { class: 'barred', title: `${one.hits} hits, ${one.true} true, ${one.predicted} predicted` },
      el('span', { class: 'value', text: percent(one.f) }),
      el(
        'span',
        { class: 'bar', 'aria-hidden': 'true' },
        el('span', { style: { width: `${100 * (one.f ?? 0)}%` } }),
      ),
    );
  const numbers = (one) => `${count(one.hits)} / ${count(one.true)} / ${count(one.predicted)}`;
  const rows = found.map((one) => [
    named(className(one.class)),
    ...SENSES.flatMap(([modality]) => [cell(one[modality]), numbers(one[modality])]),
  ]);
  const counted = 'hits / true / predicted';
  const head = ['Class', 'Heard, F1', counted, 'Seen, F1', counted];
  const lede =
    `F1 of each class over all segments of ${DATA.run.split}, a dash where it neither occurs nor is predicted. ` +
    'The official numbers are means over clips, so they are not the means of these.';
  return section(
    'classes',
    'Classes',
    el('p', { class: 'lede', text: lede }),
    scroller('Scores of classes', table(head, rows, { class: 'class-scores' })),
  );
}
