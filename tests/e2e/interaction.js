// @ts-check
// Put into a page beside in_page.js: a made-up classroom (one colour with a number, one tone) that
// publishes itself, and ears and eyes that say which tones and which colours arrive.
(() => {
  const FPS = 15;
  const context = new AudioContext({ sampleRate: 48000 });
  /** @type {Map<string, AnalyserNode>} */
  const ears = new Map();

  /** @param {string} colour @param {number} number @param {number} width @param {number} height */
  function picture(colour, number, width, height) {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    let count = 0;
    setInterval(() => {
      pen.fillStyle = colour;
      pen.fillRect(0, 0, width, height);
      pen.fillStyle = "white";
      pen.font = `${height / 4}px sans-serif`;
      pen.fillText(String(number), width * 0.8, height * 0.3);
      count += 1;
      pen.fillRect(0, 0, (count % 30) * 2, 4);
    }, 1000 / FPS);
    return canvas.captureStream(FPS).getVideoTracks()[0];
  }

  /** @param {number} hertz */
  function tone(hertz) {
    const oscillator = context.createOscillator();
    const gain = context.createGain();
    const out = context.createMediaStreamDestination();
    oscillator.frequency.value = hertz;
    gain.gain.value = 0.2;
    oscillator.connect(gain).connect(out);
    oscillator.start();
    return out.stream.getAudioTracks()[0];
  }

  /** @param {RTCPeerConnection} peer @param {string} url @param {string} token */
  async function exchange(peer, url, token) {
    await peer.setLocalDescription();
    const response = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/sdp", Authorization: `Bearer ${token}` },
      body: /** @type {RTCSessionDescription} */ (peer.localDescription).sdp,
    });
    const text = await response.text();
    if (response.status !== 201) throw new Error(`${url}: ${response.status} ${text}`);
    await peer.setRemoteDescription({ type: "answer", sdp: text });
  }

  /** @param {string} url @param {string} token
   * @param {{colour: string, number: number, hertz: number, width: number, height: number}} what */
  async function publish(url, token, what) {
    await context.resume();
    const peer = new RTCPeerConnection();
    for (const track of [picture(what.colour, what.number, what.width, what.height),
      tone(what.hertz)]) peer.addTransceiver(track, { direction: "sendonly" });
    await exchange(peer, url, token);
  }

  /** Receive a stream; its sound can be listened to, its picture looked at, under `name`.
   * @param {string} url @param {string} token @param {string} name @param {string[]} kinds */
  async function receive(url, token, name, kinds) {
    await context.resume();
    const peer = new RTCPeerConnection();
    peer.ontrack = ({ track }) => {
      const stream = new MediaStream([track]);
      // A remote sound flows into an analyser only while an element plays it.
      const element = document.createElement(track.kind === "video" ? "video" : "audio");
      element.dataset.testid = `${name}-${track.kind}`;
      element.muted = true;
      element.autoplay = true;
      element.srcObject = stream;
      document.body.append(element);
      if (track.kind === "audio") {
        const analyser = context.createAnalyser();
        analyser.fftSize = 8192;
        analyser.smoothingTimeConstant = 0;
        context.createMediaStreamSource(stream).connect(analyser);
        ears.set(name, analyser);
      }
    };
    for (const kind of kinds) peer.addTransceiver(kind, { direction: "recvonly" });
    await exchange(peer, url, token);
  }

  /** How loud each frequency is, in decibels. @param {string} name @param {number[]} hertz */
  function hear(name, hertz) {
    const analyser = ears.get(name);
    if (!analyser) return hertz.map(() => -200);
    const levels = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(levels);
    return hertz.map((one) => {
      const bin = Math.round(one * analyser.fftSize / context.sampleRate);
      return Math.max(-200, ...levels.slice(bin - 2, bin + 3));
    });
  }

  /** The colour at places of a picture, given as shares of its width and height.
   * @param {string} name @param {[number, number][]} places */
  function see(name, places) {
    const video = /** @type {HTMLVideoElement | null} */ (
      document.querySelector(`[data-testid="${name}-video"]`));
    if (!video || !video.videoWidth) return null;
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
    pen.drawImage(video, 0, 0);
    return places.map(([x, y]) => [...pen.getImageData(
      Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1).data.slice(0, 3)]);
  }

  Object.assign(window, { room: { publish, receive, hear, see } });
})();
