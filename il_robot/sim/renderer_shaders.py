"""GLSL of the OpenGL backend.

Colours are squared to light them and the root is taken at the end: gamma 2, which a software
rasteriser computes far faster than sRGB. There, texture reads are what a picture costs and
arithmetic is nearly free.
"""

from __future__ import annotations

SUN = (-0.35, -0.45, 0.82)
"""Direction to the sun in the world; not normalised."""

BACKGROUND = (0.90, 0.92, 0.94)
"""Colour where nothing is seen."""

_HEAD = f"""#version 430
const vec3 SUN = normalize(vec3{SUN});
const vec3 SUN_COLOR = vec3(0.74, 0.71, 0.66);
const vec3 SKY = vec3(0.43, 0.45, 0.48);
const vec3 GROUND = vec3(0.19, 0.18, 0.17);
const vec3 FILL = vec3(0.16, 0.17, 0.19);
const vec3 BACKGROUND = vec3{BACKGROUND};
"""

_POSE = """
in vec4 in_x, in_y, in_z;  // rows of the pose
vec3 turned(vec3 v) { return vec3(dot(in_x.xyz, v), dot(in_y.xyz, v), dot(in_z.xyz, v)); }
vec3 placed(vec3 v) { return turned(v) + vec3(in_x.w, in_y.w, in_z.w); }
"""

# A unit shape's core shrinks by the bevel and grows back along the normals, which rounds the
# edges of boxes and cylinders and leaves faces and spheres where they were.
BODY_VERTEX = _HEAD + _POSE + """
uniform mat4 camera, light;
uniform vec3 eye;
in vec3 in_position, in_normal, in_scale, in_color;
in float in_bevel;
out vec3 normal, half_way, lit;
flat out vec3 albedo;
void main() {
    vec3 world = placed(in_position * (in_scale - 2.0 * in_bevel) + in_bevel * in_normal);
    normal = turned(normalize(in_normal / in_scale));
    half_way = normalize(eye - world) + SUN;
    lit = (light * vec4(world + 0.006 * normal, 1.0)).xyz;
    albedo = in_color * in_color;
    gl_Position = camera * vec4(world, 1.0);
}
"""

BODY_PIXEL = _HEAD + """
uniform sampler2DShadow shadow_map;
in vec3 normal, half_way, lit;
flat in vec3 albedo;
out vec4 pixel;
void main() {
    vec3 n = normalize(normal);
    float sun = max(dot(n, SUN), 0.0) * texture(shadow_map, lit);
    float fill = max(-dot(n, SUN), 0.0);
    float gloss = max(dot(n, normalize(half_way)), 0.0);
    gloss *= gloss; gloss *= gloss; gloss *= gloss; gloss *= gloss; gloss *= gloss;
    vec3 ambient = mix(GROUND, SKY, 0.5 * n.z + 0.5) + FILL * fill;
    pixel = vec4(sqrt(albedo * (ambient + SUN_COLOR * sun) + 0.12 * gloss * sun), 1.0);
}
"""

SHADOW_VERTEX = _HEAD + _POSE + """
uniform mat4 light;
in vec3 in_position, in_scale;
void main() { gl_Position = light * vec4(placed(in_position * in_scale), 1.0); }
"""

SHADOW_PIXEL = _HEAD + 'void main() {}'

FLOOR_VERTEX = _HEAD + """
uniform mat4 camera, light;
uniform float height;
in vec2 in_position;
out vec2 offset;
out vec3 lit;
void main() {
    vec4 world = vec4(in_position, height, 1.0);
    offset = in_position;
    lit = (light * world).xyz;
    gl_Position = camera * world;
}
"""

FLOOR_PIXEL = _HEAD + """
uniform sampler2DShadow shadow_map;
in vec2 offset;
in vec3 lit;
out vec4 pixel;
void main() {
    float far = clamp(0.07 * dot(offset, offset), 0.0, 1.0);
    vec3 floor_color = BACKGROUND * (0.78 + 0.12 * texture(shadow_map, lit));
    pixel = vec4(mix(floor_color, BACKGROUND, far), 1.0);
}
"""

SMOOTH_VERTEX = _HEAD + """
in vec2 in_position;
void main() { gl_Position = vec4(in_position, 0.0, 1.0); }
"""

# Stands in for multisampling, which costs llvmpipe twice as much: a pixel on an edge takes up
# to 60 % of its neighbours' mean. The source is one pixel larger on every side.
SMOOTH_PIXEL = _HEAD + """
uniform sampler2D picture;
out vec4 pixel;
void main() {
    ivec2 p = ivec2(gl_FragCoord.xy);
    vec3 here = texelFetch(picture, p + ivec2(1, 1), 0).rgb;
    vec3 a = texelFetch(picture, p + ivec2(1, 2), 0).rgb;
    vec3 b = texelFetch(picture, p + ivec2(1, 0), 0).rgb;
    vec3 c = texelFetch(picture, p + ivec2(2, 1), 0).rgb;
    vec3 d = texelFetch(picture, p + ivec2(0, 1), 0).rgb;
    vec3 step = abs(a - b) + abs(c - d);
    float edge = clamp(2.0 * (step.x + step.y + step.z) - 0.15, 0.0, 0.6);
    pixel = vec4(mix(here, 0.25 * (a + b + c + d), edge), 1.0);
}
"""
