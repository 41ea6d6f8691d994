// Draws points with WebGL 2, for hundreds of thousands: coordinates, colours and order stay on the graphics card, and
// zooming, dragging or moving the points from model to model changes a few numbers.

const VERTEX = `#version 300 es
in vec2 here, there;      // a point in two models, -1 to 1
in float group;
uniform vec2 middle, scale;
uniform float blend, size;
uniform vec3 palette[32];
flat out vec3 colour;
void main() {
  gl_Position = vec4((mix(here, there, blend) - middle) * scale, 0.0, 1.0);
  gl_PointSize = size + 1.0;  // and half a pixel on each side for a smooth edge
  colour = palette[int(group)];
}`;

const FRAGMENT = `#version 300 es
precision highp float;
flat in vec3 colour;
uniform float size, opacity;
out vec4 pixel;
void main() {
  float far = length(gl_PointCoord - 0.5) * (size + 1.0);
  float alpha = opacity * clamp(size * 0.5 + 0.5 - far, 0.0, 1.0);
  if (alpha <= 0.0) discard;
  pixel = vec4(colour * alpha, alpha);
}`;

class WebGLPainter {
  constructor(canvas) {
    this.canvas = canvas;
    this.gl = canvas.getContext("webgl2", {antialias: false, depth: false});
    canvas.addEventListener("webglcontextlost", e => e.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => { this.prepare(); draw(); });
    this.prepare();
  }

  static isAvailable() {
    return Boolean(document.createElement("canvas").getContext("webgl2"));
  }

  prepare() {
    const {gl} = this, program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) throw Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.attribute = name => gl.getAttribLocation(program, name);
    const places = {};
    this.uniform = name => places[name] ??= gl.getUniformLocation(program, name);
    this.buffers = new Map();  // array → its copy on the card
  }

  // The buffer that holds `array`, now bound; an array is copied once, for none changes.
  bind(target, array) {
    const {gl, buffers} = this;
    const known = buffers.get(array), buffer = known ?? gl.createBuffer();
    gl.bindBuffer(target, buffer);
    if (!known) {
      gl.bufferData(target, array, gl.STATIC_DRAW);
      buffers.set(array, buffer);
    }
  }

  forget(kept) {
    for (const [array, buffer] of this.buffers) {
      if (kept.has(array)) continue;
      this.gl.deleteBuffer(buffer);
      this.buffers.delete(array);
    }
  }

  paint(scene) {
    const {gl, canvas} = this, {width, height, dense, view, scale} = scene;
    const [w, h] = [width, height].map(side => Math.round(side * dense));
    if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    gl.viewport(0, 0, w, h);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    const from = D.xy[scene.from], to = D.xy[scene.to];
    this.forget(new Set([...D.xy, scene.groups, ...scene.layers.map(layer => layer.order)]));
    for (const [name, array, size, type] of [
      ["here", from, 2, gl.SHORT], ["there", to, 2, gl.SHORT], ["group", scene.groups, 1, gl.UNSIGNED_BYTE],
    ]) {
      this.bind(gl.ARRAY_BUFFER, array);
      gl.enableVertexAttribArray(this.attribute(name));
      gl.vertexAttribPointer(this.attribute(name), size, type, type === gl.SHORT, 0, 0);
    }
    gl.uniform2f(this.uniform("middle"), view.x / REACH, view.y / REACH);
    gl.uniform2f(this.uniform("scale"), scale * REACH * 2 / width, scale * REACH * 2 / height);
    gl.uniform1f(this.uniform("blend"), scene.blend);
    gl.uniform3fv(this.uniform("palette"), scene.colours.flatMap(colour => channels(colour).map(v => v / 255)));
    for (const {order, count, radius, opacity} of scene.layers) {
      gl.uniform1f(this.uniform("size"), 2 * radius * dense);
      gl.uniform1f(this.uniform("opacity"), opacity);
      this.bind(gl.ELEMENT_ARRAY_BUFFER, order);
      gl.drawElements(gl.POINTS, count, gl.UNSIGNED_INT, 0);
    }
  }
}
