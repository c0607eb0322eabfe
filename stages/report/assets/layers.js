// How much each layer matters: what the score loses without it.

function layersSection() {
  if (!DATA.layers) return null;
  const { rows, base, metric, how } = DATA.layers;
  const modalities = [...new Set(rows.map((row) => row.modality))];
  const span = Math.max(1e-9, ...rows.map((row) => Math.abs(row.cost ?? 0)));
  const below = Math.max(0, ...rows.map((row) => -(row.cost ?? 0)));
  const scale = { span: span + below, zero: below / (span + below) };
  return section(
    'layers',
    'What each layer is worth',
    el('p', { class: 'lede', text: how }),
    el('p', {
      class: 'muted',
      text: `Bars: points of ${nice(metric)} lost, of ${percent(base)} with everything in place.`,
    }),
    el(
      'div',
      { class: 'beside even' },
      ...modalities.map((name) =>
        layerTable(
          name,
          rows.filter((row) => row.modality === name),
          scale,
        ),
      ),
    ),
  );
}

function layerTable(modality, rows, scale) {
  const body = rows.map((row) => {
    const cost = row.cost ?? 0;
    const place = {
      left: `${100 * (scale.zero + Math.min(0, cost) / scale.span)}%`,
      width: `${(100 * Math.abs(cost)) / scale.span}%`,
    };
    const bar = el(
      'span',
      { class: 'bar', 'aria-hidden': 'true' },
      el('span', { class: cost < 0 ? 'gain' : null, style: place }),
    );
    const value = el('span', {
      class: 'value',
      title: String(row.cost),
      text: row.cost === null ? NONE : points(difference(row.score, DATA.layers.base)),
    });
    const name = row.tap === null ? el('strong', { text: 'whole modality' }) : named(row.tap);
    return {
      attributes: { class: row.tap === null ? 'whole' : null },
      cells: [name, el('span', { class: 'barred' }, value, bar), percent(row.score)],
    };
  });
  const head = [capital(modality), 'Points', 'Score left'];
  return scroller(`Layers, ${modality}`, table(head, body, { class: 'layers' }));
}
