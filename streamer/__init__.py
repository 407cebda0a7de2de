"""The media plane: WebRTC sessions in, the same RTP out to many receivers; no lesson, no HTTP."""
