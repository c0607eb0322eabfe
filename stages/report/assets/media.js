// What time it is in a clip: by its video, by its sound, or by a silent clock.

/** An object URL for base64 media, with the way to give it back. */
function blobUrl(media) {
  return URL.createObjectURL(new Blob([bytesOf(media.data)], { type: media.type }));
}

/**
 * The player of one clip.
 *
 * `changed` is called whenever time or state moved. `failed` is called once if the browser cannot play the media; the
 * silent clock goes on in its place.
 */
function makePlayer(detail, length, changed, failed) {
  const source = detail?.video ?? detail?.audio ?? null;
  let media = null;
  let url = null;
  let frame = 0;
  let silent = { at: 0, since: null };
  let open = true;

  if (source) {
    url = blobUrl(source);
    media = el(detail.video ? 'video' : 'audio', { preload: 'auto', playsinline: true, disablepictureinpicture: true });
    if (detail.video) media.setAttribute('aria-label', 'Video of the clip');
    media.addEventListener('error', () => {
      if (!open || media === null) return;
      silent = { at: 0, since: null };
      media = null;
      failed();
      changed();
    });
    for (const event of [
      'play',
      'pause',
      'ended',
      'seeked',
      'timeupdate',
      'loadedmetadata',
      'loadeddata',
      'volumechange',
    ]) {
      media.addEventListener(event, () => open && changed());
    }
    media.src = url;
  }

  const silentTime = () => silent.at + (silent.since === null ? 0 : (performance.now() - silent.since) / 1000);
  const time = () => Math.min(length, media ? media.currentTime : silentTime());
  const playing = () => (media ? !media.paused && !media.ended : silent.since !== null);
  const tick = () => {
    if (!open) return;
    if (!media && playing() && silentTime() >= length) silent = { at: length, since: null };
    changed();
    if (playing()) frame = requestAnimationFrame(tick);
  };
  const seek = (value) => {
    const at = Math.max(0, Math.min(length, value));
    if (media) media.currentTime = Math.min(at, Number.isFinite(media.duration) ? media.duration : at);
    else silent = { at, since: playing() ? performance.now() : null };
    changed();
  };
  const play = () => {
    if (time() >= length - 0.05) seek(0);
    const begun = media ? media.play() : (silent.since = performance.now());
    // A browser may refuse, or the clip may close before it starts: then nothing plays, and the button says so.
    Promise.resolve(begun).then(() => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(tick);
    }, changed);
  };
  const pause = () => {
    if (media) media.pause();
    else silent = { at: silentTime(), since: null };
    changed();
  };
  const close = () => {
    open = false;
    cancelAnimationFrame(frame);
    if (media) {
      media.pause();
      media.removeAttribute('src');
      media.load();
    }
    if (url) URL.revokeObjectURL(url);
  };
  return {
    element: () => media,
    hasSound: () => media !== null,
    muted: () => media?.muted ?? true,
    mute: (quiet) => media && (media.muted = quiet),
    toggle: () => (playing() ? pause() : play()),
    time,
    playing,
    seek,
    close,
  };
}
