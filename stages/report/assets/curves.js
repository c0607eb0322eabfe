// Loss and score by epoch: two charts with one cursor, and the numbers as a table.

const CHART = { height: 200, left: 46, right: 14, top: 12, bottom: 30 };

function curvesSection() {
  const epochs = DATA.curves?.epochs ?? [];
  if (!epochs.length)
    return section(
      'curves',
      'Training',
      el('p', { class: 'muted', text: 'The run folder holds no record of its epochs.' }),
    );
  const score = DATA.curves.score;
  const marked = epochs.findIndex((row) => row.epoch === DATA.run.epoch);
  const charts = [
    chart(
      'Training loss',
      epochs,
      (row) => row.train_loss,
      (value) => significant(value),
      marked,
      [0, Infinity],
    ),
    chart(
      capital(niceScore(score)),
      epochs,
      (row) => row[score],
      (value) => percent(value),
      marked,
      [0, 1],
    ),
  ];
  const readout = el('p', { class: 'readout', 'aria-hidden': 'true' });
  const cursor = el('div', {
    class: 'charts',
    role: 'slider',
    tabindex: '0',
    'aria-label': 'Epoch',
    'aria-valuemin': epochs[0].epoch,
    'aria-valuemax': epochs.at(-1).epoch,
  });
  cursor.append(...charts.map((one) => one.node));
  let at = marked < 0 ? epochs.length - 1 : marked;
  const show = (place) => {
    at = Math.max(0, Math.min(epochs.length - 1, place));
    const row = epochs[at];
    const value = typeof row[score] === 'number' ? percent(row[score]) : 'not taken';
    const loss = typeof row.train_loss === 'number' ? significant(row.train_loss, 4) : 'not taken';
    const text = `epoch ${row.epoch}: training loss ${loss}, ${niceScore(score)} ${value}`;
    cursor.setAttribute('aria-valuenow', row.epoch);
    cursor.setAttribute('aria-valuetext', text);
    readout.textContent = capital(text) + (at === marked ? ' \u2013 the epoch that is reported' : '');
    charts.forEach((one) => one.show(at));
  };
  cursor.addEventListener('keydown', (event) => {
    const step = {
      ArrowLeft: at - 1,
      ArrowDown: at - 1,
      ArrowRight: at + 1,
      ArrowUp: at + 1,
      Home: 0,
      End: epochs.length - 1,
    }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    show(step);
  });
  charts.forEach((one) => one.node.addEventListener('pointermove', (event) => show(one.nearest(event))));
  const node = section('curves', 'Training', cursor, readout, epochTable(epochs));
  const redraw = () => {
    charts.forEach((one) => one.draw());
    show(at);
  };
  new ResizeObserver(redraw).observe(cursor);
  redraw();
  return node;
}

/** Round values that divide a range into about `wanted` steps. */
function ticks(low, high, wanted) {
  const raw = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= raw) ?? 10);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

function chart(title, rows, valueOf, format, marked, [least, most]) {
  const known = rows
    .map((row, place) => ({ place, x: row.epoch, y: valueOf(row) }))
    .filter((point) => typeof point.y === 'number');
  const picture = svg('svg', { height: CHART.height, 'aria-hidden': 'true', class: 'chart' });
  const node = el('figure', {}, el('figcaption', { text: title }), picture);
  const range = (values, around) => {
    const low = Math.min(...values);
    const high = Math.max(...values);
    return high > low ? [low, high] : [low - around, high + around];
  };
  const [x0, x1] = range(
    rows.map((row) => row.epoch),
    0.5,
  );
  const [low, high] = known.length
    ? range(
        known.map((point) => point.y),
        0.01,
      )
    : [0, 1];
  // No axis goes where no value can be: below 0, or above 1 for a share.
  const [y0, y1] = [Math.max(least, low - 0.06 * (high - low)), Math.min(most, high + 0.06 * (high - low))];
  let width = 300;
  const x = (value) => CHART.left + ((value - x0) / (x1 - x0)) * (width - CHART.left - CHART.right);
  const y = (value) =>
    CHART.height - CHART.bottom - ((value - y0) / (y1 - y0)) * (CHART.height - CHART.top - CHART.bottom);
  const line = svg('line', { class: 'cursor', y1: CHART.top, y2: CHART.height - CHART.bottom });
  const dot = svg('circle', { class: 'at', r: 4 });

  const axes = () => {
    const bottom = CHART.height - CHART.bottom;
    const parts = [];
    for (const value of ticks(y0, y1, 4)) {
      parts.push(svg('line', { class: 'grid', x1: CHART.left, x2: width - CHART.right, y1: y(value), y2: y(value) }));
      parts.push(
        svg('text', {
          x: CHART.left - 6,
          y: y(value) + 4,
          'text-anchor': 'end',
          text: format(value).replace('.0 %', ' %'),
        }),
      );
    }
    for (const value of ticks(x0, x1, Math.max(2, Math.min(10, width / 70))).filter(Number.isInteger)) {
      parts.push(svg('line', { class: 'tick', x1: x(value), x2: x(value), y1: bottom, y2: bottom + 4 }));
      parts.push(svg('text', { x: x(value), y: bottom + 16, 'text-anchor': 'middle', text: String(value) }));
    }
    parts.push(svg('line', { class: 'axis', x1: CHART.left, x2: width - CHART.right, y1: bottom, y2: bottom }));
    parts.push(
      svg('text', { class: 'unit', x: width - CHART.right, y: CHART.height - 1, 'text-anchor': 'end', text: 'epoch' }),
    );
    return parts;
  };
  const draw = () => {
    width = Math.max(220, node.clientWidth);
    dress(picture, { width, viewBox: `0 0 ${width} ${CHART.height}` });
    picture.replaceChildren(...axes());
    if (!known.length)
      picture.append(svg('text', { x: width / 2, y: CHART.height / 2, 'text-anchor': 'middle', text: 'no values' }));
    picture.append(
      svg('polyline', { class: 'curve', points: known.map((point) => `${x(point.x)},${y(point.y)}`).join(' ') }),
    );
    if (known.length <= 40)
      picture.append(...known.map((point) => svg('circle', { class: 'point', cx: x(point.x), cy: y(point.y), r: 2 })));
    picture.append(line, ...mark(), dot);
  };
  const mark = () => {
    const point = known.find((one) => one.place === marked);
    if (!point) return [];
    const right = x(point.x) > width - 90;
    // Where the line is not: above a low point, below a high one.
    const high = y(point.y) < CHART.height / 2;
    const label = {
      class: 'mark',
      x: x(point.x) + (right ? -8 : 8),
      y: high ? CHART.height - CHART.bottom - 8 : CHART.top + 10,
      'text-anchor': right ? 'end' : 'start',
    };
    const tall = { class: 'marked', x1: x(point.x), x2: x(point.x), y1: CHART.top, y2: CHART.height - CHART.bottom };
    return [
      svg('line', tall),
      svg('circle', { class: 'marked', cx: x(point.x), cy: y(point.y), r: 5 }),
      svg('text', { ...label, text: 'reported' }),
    ];
  };
  const show = (place) => {
    const point = known.find((one) => one.place === place);
    dress(line, { x1: x(rows[place].epoch), x2: x(rows[place].epoch) });
    dot.setAttribute('visibility', point ? 'visible' : 'hidden');
    if (point) dress(dot, { cx: x(point.x), cy: y(point.y) });
  };
  const nearest = (event) => {
    const at = event.clientX - picture.getBoundingClientRect().left;
    const away = (row) => Math.abs(x(row.epoch) - at);
    return rows.reduce((found, row, place) => (away(row) < away(rows[found]) ? place : found), 0);
  };
  return { node, draw, show, nearest };
}

function epochTable(epochs) {
  const keys = [...new Set(epochs.flatMap((row) => Object.keys(row)))].filter((key) => key !== 'epoch');
  const cell = (value) =>
    typeof value === 'number' ? significant(value, 5) : value === null || value === undefined ? NONE : String(value);
  const rows = epochs.map((row) => [String(row.epoch), ...keys.map((key) => cell(row[key]))]);
  const label = 'Every epoch, in numbers';
  return el(
    'details',
    {},
    el('summary', { text: label }),
    scroller(label, table(['epoch', ...keys.map(nice)], rows, { class: 'numbers' })),
  );
}
