# The model of scaling.sh: fits it, prints the table and writes the plot.
#
#   awk -v svg=PLOT -f scaling.awk PEAKS POINTS
#
# PEAKS   lines "threads GOP/s"
# POINTS  lines "series x width batch resolution threads ms"

# Operations per image and bytes of weights of the network, into ops and weights.
function network(m, side,    d, w, s, i, c, out, n) {
    split("2 4 14 1", d, " "); split("48 96 192 1280", w, " ")
    ops = weights = 0
    c = 3; side = half(side); out = 48 * m < 64 ? 48 * m : 64
    layer(c, out, 9, side); c = out
    for (s = 1; s <= 4; s++)
        for (i = 1; i <= d[s]; i++) {
            if (i == 1) side = half(side)
            layer(c, w[s] * m, 9, side); c = w[s] * m
        }
    layer(c, 1000, 1, 1)
}
function half(side) { return int((side + 1) / 2) }
function layer(ic, oc, taps, side) {
    ops += 2 * taps * ic * oc * side * side; weights += taps * ic * oc
}
function model(i) {
    network(width[i], side[i])
    return 1e3 * (batch[i] * ops / (e * 1e9 * peak[threads[i]]) + weights / B)
}
FILENAME ~ /peaks$/ { peak[$1] = $2; next }
{
    n++; series[n] = $1; x[n] = $2
    width[n] = $3; batch[n] = $4; side[n] = $5; threads[n] = $6; ms[n] = $7
}
END {
    # t / ms = u * alpha + v * beta with alpha = 1 / e, beta = 1 / B, as near to 1 as may be
    for (i = 1; i <= n; i++) if (series[i] == "batch") {
        network(width[i], side[i])
        u = 1e3 * batch[i] * ops / (1e9 * peak[threads[i]]) / ms[i]; v = 1e3 * weights / ms[i]
        uu += u * u; uv += u * v; vv += v * v; su += u; sv += v
    }
    det = uu * vv - uv * uv
    e = det / (su * vv - sv * uv); B = det / (sv * uu - su * uv)
    printf "P = %.0f GOP/s of all threads; fitted: e = %.3f, B = %.1f GB/s.\n\n", peak[threads[1]], e, B / 1e9
    print "| series | point | measured | model | off by |\n|---|---|---|---|---|"
    for (i = 1; i <= n; i++)
        printf "| %s | %s | %.2f ms | %.2f ms | %+.0f %% |\n", series[i], x[i], ms[i], model(i), 100 * (model(i) / ms[i] - 1)
    plot()
}
# Four panels, both axes logarithmic: circles are measured, lines the model.
function plot(    k, names, titles, i) {
    split("batch resolution width threads", names, " ")
    split("ms against batch (224 pixels)|ms against resolution (batch 8)|ms against width (batch 8)|ms against threads (batch 8)", titles, "|")
    print "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"860\" height=\"560\" font-family=\"sans-serif\" font-size=\"12\">" > svg
    print "<rect width=\"860\" height=\"560\" fill=\"white\"/>" > svg
    for (k = 1; k <= 4; k++) panel(names[k], titles[k], (k - 1) % 2 * 430 + 60, int((k - 1) / 2) * 280 + 40)
    print "</svg>" > svg
}
function at(v, lo, hi, from, size) { return from + (hi > lo ? (log(v) - log(lo)) / (log(hi) - log(lo)) : 0.5) * size }
function panel(name, title, left, top,    i, line, x0, x1, y0, y1, px) {
    x0 = y0 = 1e9; x1 = y1 = 0
    for (i = 1; i <= n; i++) if (series[i] == name) {
        if (x[i] < x0) x0 = x[i]; if (x[i] > x1) x1 = x[i]
        if (ms[i] < y0) y0 = ms[i]; if (ms[i] > y1) y1 = ms[i]
    }
    y0 *= 0.8; y1 *= 1.25
    printf "<text x=\"%d\" y=\"%d\" font-weight=\"bold\">%s</text>\n", left, top - 12, title > svg
    printf "<rect x=\"%d\" y=\"%d\" width=\"340\" height=\"190\" fill=\"none\" stroke=\"#888\"/>\n", left, top > svg
    for (i = 1; i <= n; i++) if (series[i] == name) {
        px = at(x[i], x0, x1, left + 15, 310)
        line = line sprintf("%.1f,%.1f ", px, at(model(i), y0, y1, top + 190, -190))
        printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"#c33\"/>\n", px, at(ms[i], y0, y1, top + 190, -190) > svg
        printf "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", px, top + 206, x[i] > svg
        printf "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\" fill=\"#c33\" font-size=\"10\">%.3g</text>\n", px - 6, at(ms[i], y0, y1, top + 190, -190) - 3, ms[i] > svg
    }
    printf "<polyline points=\"%s\" fill=\"none\" stroke=\"#36c\" stroke-width=\"1.5\"/>\n", line > svg
}
