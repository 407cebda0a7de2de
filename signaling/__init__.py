"""The control process: pages, WHIP/WHEP, admission, lessons and the supervision of the workers."""
