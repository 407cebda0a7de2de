// @ts-check
// Put into every page before its own scripts: records the peer connections that the page makes,
// measures what really arrives through them, and can itself publish and watch by WHIP and WHEP.
(() => {
  /** @type {RTCPeerConnection[]} */
  const peers = [];
  const Native = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Native {
    /** @param {RTCConfiguration=} configuration */
    constructor(configuration) {
      super(configuration);
      peers.push(this);
    }
  };

  /** What one peer connection received and sent so far. @param {RTCPeerConnection} peer */
  async function measure(peer) {
    const report = await peer.getStats();
    const all = [...report.values()];
    const transport = all.find((entry) => entry.type === "transport");
    const pair = transport && report.get(transport.selectedCandidatePairId);
    const remote = pair && report.get(pair.remoteCandidateId);
    const result = {
      state: peer.connectionState,
      protocol: remote ? remote.protocol : "",
      srtp: transport ? transport.srtpCipher : "",
      frames: 0, freezes: 0, width: 0, video_codec: "",
      audio_energy: 0, audio_packets: 0, audio_codec: "",
      packets_lost: 0, frames_sent: 0, audio_packets_sent: 0, video_packets: 0,
    };
    for (const entry of all) {
      const codec = entry.codecId ? report.get(entry.codecId).mimeType : "";
      if (entry.type === "inbound-rtp") {
        result.packets_lost += entry.packetsLost || 0;
        if (entry.kind === "video") {
          result.frames += entry.framesDecoded || 0;
          result.freezes += entry.freezeCount || 0;
          result.width = entry.frameWidth || result.width;
          result.video_packets += entry.packetsReceived || 0;
          result.video_codec = codec || result.video_codec;
        } else {
          result.audio_energy += entry.totalAudioEnergy || 0;
          result.audio_packets += entry.packetsReceived || 0;
          result.audio_codec = codec || result.audio_codec;
        }
      } else if (entry.type === "outbound-rtp") {
        if (entry.kind === "video") result.frames_sent += entry.framesSent || 0;
        else result.audio_packets_sent += entry.packetsSent || 0;
      }
    }
    return result;
  }

  /** Brightness statistics of what a <video> shows now. @param {HTMLVideoElement} video */
  function look(video) {
    if (!video || video.videoWidth === 0) return null;
    const canvas = new OffscreenCanvas(64, 36);
    const context = /** @type {OffscreenCanvasRenderingContext2D} */ (
      canvas.getContext("2d", { willReadFrequently: true }));
    context.drawImage(video, 0, 0, 64, 36);
    const { data } = context.getImageData(0, 0, 64, 36);
    let sum = 0, hash = 0, brightest = 0, darkest = 255;
    for (let at = 0; at < data.length; at += 4) {
      const grey = (data[at] + data[at + 1] + data[at + 2]) / 3;
      sum += grey;
      brightest = Math.max(brightest, grey);
      darkest = Math.min(darkest, grey);
      hash = (hash * 31 + data[at] * 7 + data[at + 1] * 5 + data[at + 2]) % 2147483647;
    }
    return { mean: sum / (64 * 36), contrast: brightest - darkest, hash, width: video.videoWidth };
  }

  /** @param {string} url @param {string} token @param {RTCPeerConnection} peer */
  async function exchange(url, token, peer) {
    await peer.setLocalDescription();
    const description = /** @type {RTCSessionDescription} */ (peer.localDescription);
    const response = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/sdp", Authorization: `Bearer ${token}` },
      body: description.sdp,
    });
    const text = await response.text();
    if (response.status !== 201) throw new Error(`${url}: ${response.status} ${text}`);
    await peer.setRemoteDescription({ type: "answer", sdp: text });
    return text;
  }

  /** Only this codec (and its retransmissions) in the offer.
   * @param {RTCRtpTransceiver} transceiver @param {string} codec
   * @param {"send" | "receive"} direction */
  function insistOn(transceiver, codec, direction) {
    if (!codec) return;
    const side = direction === "send" ? RTCRtpSender : RTCRtpReceiver;
    const known = side.getCapabilities("video")?.codecs ?? [];
    const wanted = known.filter((one) => one.mimeType.toLowerCase() === `video/${codec}`);
    if (wanted.length === 0) throw new Error(`this browser has no ${codec}`);
    transceiver.setCodecPreferences(
      [...wanted, ...known.filter((one) => one.mimeType === "video/rtx")]);
  }

  /** Publish the (fake) camera and microphone; the answer.
   * @param {string} url @param {string} token @param {string} codec */
  async function publish(url, token, codec = "") {
    const stream = await navigator.mediaDevices.getUserMedia({
      video: true,
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
    const peer = new RTCPeerConnection();
    for (const track of stream.getTracks()) {
      const transceiver = peer.addTransceiver(track, { direction: "sendonly", streams: [stream] });
      if (track.kind === "video") insistOn(transceiver, codec, "send");
    }
    return exchange(url, token, peer);
  }

  /** Receive into a <video> of this page; the answer.
   * @param {string} url @param {string} token @param {string} codec */
  async function watch(url, token, codec = "") {
    const peer = new RTCPeerConnection();
    insistOn(peer.addTransceiver("video", { direction: "recvonly" }), codec, "receive");
    peer.addTransceiver("audio", { direction: "recvonly" });
    const video = document.createElement("video");
    video.autoplay = true;
    video.dataset.testid = "watched";
    const stream = new MediaStream();
    video.srcObject = stream;
    peer.addEventListener("track", ({ track }) => stream.addTrack(track));
    document.body.append(video);
    return exchange(url, token, peer);
  }

  const living = () => peers.filter((peer) => peer.connectionState !== "closed");
  Object.assign(window, {
    e2e: {
      peers,
      publish,
      watch,
      measure: () => Promise.all(living().map(measure)),
      /** @param {string} testid */
      look: (testid) =>
        look(/** @type {HTMLVideoElement} */ (
          document.querySelector(`[data-testid="${testid}"]`))),
      hangUp: () => living().forEach((peer) => peer.close()),
    },
  });
})();
