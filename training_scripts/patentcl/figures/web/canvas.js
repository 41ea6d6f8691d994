// Draws points with the canvas's own circles: the simplest way, fast enough for 20,000, and everywhere available.

class CanvasPainter {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
  }

  // scene: width, height and dense (device pixels per pixel); from, to and blend (where the points are between two
  // models); view {x, y}, scale (pixels per unit); groups (a patent's colour), colours, and layers: the first `count` of `order`.
  paint(scene) {
    const {pen, canvas} = this, {width, height, dense, blend, view, scale} = scene;
    canvas.width = Math.round(width * dense);
    canvas.height = Math.round(height * dense);
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    const from = D.xy[scene.from], to = D.xy[scene.to];
    for (const {order, count, radius, opacity} of scene.layers) {
      pen.globalAlpha = opacity;
      for (const n of order.subarray(0, count)) {
        const a = from[2 * n], b = from[2 * n + 1];
        const x = width / 2 + (a + (to[2 * n] - a) * blend - view.x) * scale;
        const y = height / 2 - (b + (to[2 * n + 1] - b) * blend - view.y) * scale;
        if (x < -radius || y < -radius || x > width + radius || y > height + radius) continue;
        pen.fillStyle = scene.colours[scene.groups[n]];
        pen.beginPath();
        pen.arc(x, y, radius, 0, 7);
        pen.fill();
      }
    }
  }
}
