// The report, from top to bottom.

headline();
scoresSection();
curvesSection();
confusionSection();
classesSection();
layersSection();
clipsSection();
costsSection();
setupSection();

// The line of the table of contents that belongs to what is on the screen.
const links = new Map([...document.querySelectorAll('#contents a')].map((link) => [link.hash.slice(1), link]));
const seenNow = new Set();
const bar = document.querySelector('.contents');
const follow = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) seenNow[isIntersecting ? 'add' : 'delete'](target.id);
    const first = [...links.keys()].find((id) => seenNow.has(id));
    for (const [id, link] of links) {
      if (id !== first) link.removeAttribute('aria-current');
      else if (!link.hasAttribute('aria-current')) {
        link.setAttribute('aria-current', 'location');
        // On a phone the contents are one line that scrolls sideways.
        if (bar.scrollWidth > bar.clientWidth) bar.scrollLeft = link.offsetLeft - bar.clientWidth / 3;
      }
    }
  },
  { rootMargin: '-20% 0px -70% 0px' },
);
for (const id of links.keys()) follow.observe(document.getElementById(id));
document.documentElement.dataset.ready = 'true';
