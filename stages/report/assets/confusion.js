// Which classes are taken for which.

function confusionSection() {
  if (!DATA.confusion) return null;
  const { classes, counts } = DATA.confusion;
  const unit = DATA.confusion.unit ?? 'segment';
  const sums = counts.map((row) => row.reduce((sum, value) => sum + value, 0));
  const numbers = unit === 'pixel' ? 'percent of the pixels of the row' : 'segments';
  const caption = `Rows are the truth, columns what was predicted, numbers are ${numbers}. The shade is the share of the row.`;
  return section(
    'confusion',
    'Confusion',
    el('p', { class: 'lede', text: caption }),
    el(
      'div',
      { class: 'beside' },
      scroller('Confusion matrix', matrix(classes, counts, sums, unit)),
      confusions(classes, counts, sums, unit),
    ),
  );
}

function matrix(classes, counts, sums, unit) {
  const corner = el(
    'td',
    { class: 'corner' },
    el('span', { text: 'truth \u2193' }),
    el('span', { text: 'predicted \u2192' }),
  );
  const heads = classes.map((name) => el('th', { scope: 'col', title: name }, el('span', {}, named(name))));
  const rows = classes.map((name, i) => {
    const cells = counts[i].map((value, j) => {
      const share = sums[i] ? value / sums[i] : 0;
      const kind = [i === j ? 'diagonal' : '', share > 0.55 ? 'deep' : '', value ? '' : 'zero']
        .filter(Boolean)
        .join(' ');
      const title = `${isolated(name)} taken for ${isolated(classes[j])}: ${value} of ${sums[i]}, ${percent(share)}`;
      return el('td', {
        class: kind || null,
        title,
        style: { '--share': `${(100 * share).toFixed(1)}%` },
        text: unit === 'pixel' ? fixed(100 * share, 0) : count(value),
      });
    });
    return el('tr', {}, el('th', { scope: 'row', title: name }, named(name)), ...cells);
  });
  return el('table', { class: 'confusion' }, el('thead', {}, el('tr', {}, corner, ...heads)), el('tbody', {}, ...rows));
}

function confusions(classes, counts, sums, unit) {
  const found = counts
    .flatMap((row, i) => row.map((value, j) => ({ i, j, value })))
    .filter((one) => one.i !== one.j && one.value);
  found.sort((a, b) => b.value - a.value);
  const line = ({ i, j, value }) =>
    el(
      'li',
      {},
      el('span', { class: 'pair' }, named(classes[i]), ' \u2192 ', named(classes[j])),
      el('span', { class: 'amount', text: `${plural(value, unit)}, ${percent(value / sums[i], 0)} of the class` }),
    );
  const list = found.length
    ? el('ol', {}, ...found.slice(0, 8).map(line))
    : el('p', { text: `None: every ${unit} is right.` });
  return el('div', { class: 'frequent' }, el('h3', { text: 'Most frequent confusions' }), list);
}
