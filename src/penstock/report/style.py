"""The look of the run page: one style sheet, light and dark, screen and print."""

CSS = """
:root{color-scheme:light dark;
--page:#f5f7f8;--paper:#fff;--ink:#16212c;--soft:#5b6977;--line:#e4e9ec;--own:#c6d0d8;--band0:#8fc0e0;
--band1:#a9d0ea;--tree:#1f6296;--budget:#c5392a;--projected:#5b6977;--pipe:#e9eef1;--done:#7fb3d6;
--some:#a5cbe4;--few:#c9e0ef;--over:#d9503f;--died:#7d55b0;--raised:#d4892a;--idle:#9aa7b2;--safe:#edf5fa;
--stage0:#f1f5f7;--stage1:#f8fafb;--good:#2c7a5b;--wash:#fdf1ef}
@media(prefers-color-scheme:dark){:root{
--page:#0f1419;--paper:#161d24;--ink:#e4eaef;--soft:#93a2b0;--line:#27313a;--own:#46535e;--band0:#2f6d9b;
--band1:#275b83;--tree:#a6d4f5;--budget:#ff7f6e;--projected:#9aa9b6;--pipe:#222c35;--done:#3c7eae;
--some:#2f6189;--few:#264a67;--over:#f0705e;--died:#a986dc;--raised:#e5a64f;--idle:#64727e;--safe:#18242e;
--stage0:#1a222a;--stage1:#182029;--good:#67c29c;--wash:#2a1c1b}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",
"Liberation Sans",Roboto,sans-serif;font-variant-numeric:tabular-nums}
main{max-width:1160px;margin:0 auto;padding:40px 28px 56px}
header{display:flex;flex-wrap:wrap;align-items:baseline;gap:4px 14px}
h1{font-size:30px;line-height:1.2;font-weight:650;letter-spacing:-.02em;margin:0;overflow-wrap:anywhere}
h2{font-size:17px;font-weight:620;letter-spacing:-.005em;margin:0 0 2px}
p{margin:0}.soft,figcaption{color:var(--soft)}
.badge{font-size:13px;font-weight:600;padding:2px 11px;border-radius:99px;color:var(--good);
border:1px solid currentColor}
.badge.failed{color:var(--budget)}.badge.running{color:var(--tree)}.badge.interrupted,.badge.died{color:var(--raised)}
.when{flex-basis:100%;color:var(--soft);overflow-wrap:anywhere}
section{background:var(--paper);border:1px solid var(--line);border-radius:12px;padding:22px 26px;
margin-top:20px;break-inside:avoid}
.lead{font-size:21px;line-height:1.35;letter-spacing:-.01em;margin-bottom:8px}.lead b{font-weight:650}
.note{background:var(--wash);border-color:var(--budget)}.note p+p{margin-top:8px}
.numbers{display:grid;grid-template-columns:repeat(auto-fit,minmax(136px,1fr));gap:16px 24px;margin:20px 0 0}
.numbers div{border-top:1px solid var(--line);padding-top:10px}
dt{color:var(--soft);font-size:13px}dd{margin:0;font-size:20px;font-weight:600;letter-spacing:-.01em}
dd small{display:block;font-size:13px;font-weight:400;color:var(--soft);letter-spacing:0}
.two{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:0 20px}.two>*{min-width:0}
.tall{max-height:430px;overflow:auto;margin-bottom:8px}.tall th{position:sticky;top:0;background:var(--paper)}
section>svg{max-width:470px}
@media(max-width:980px){.two{grid-template-columns:minmax(0,1fr)}}
@media(max-width:860px){main{padding:20px 12px}section{padding:16px}}
@media(max-width:620px){.chart{margin:0 8px 0 60px}.odd{display:none}.numbers{grid-template-columns:1fr 1fr}
h1{font-size:25px}.lead{font-size:18px}td,th{padding-right:10px}}
.wide{overflow-x:auto}
svg{display:block;width:100%;height:auto;margin-top:12px;font-size:12px}text{pointer-events:none}
.chart{margin:0 12px 0 76px}.chart>svg{overflow:visible}.chart svg svg{overflow:visible}
.chart svg .clip{overflow:hidden}.chart path,.chart rect,.bar path{vector-effect:non-scaling-stroke}
.bar{position:relative;height:46px;margin:12px 0 0}.bar svg{position:absolute;left:0;margin:0;height:auto}
.bar svg:first-child{top:6px;height:34px;border-radius:9px;overflow:hidden}
.bar svg+svg{top:0;height:46px;overflow:visible}
text{fill:var(--soft)}.end{text-anchor:end}.mid{text-anchor:middle}text.strong{fill:var(--ink);font-weight:600}
text.red{fill:var(--budget);font-weight:600}.halo{paint-order:stroke;stroke:var(--paper);stroke-width:3.5px;
stroke-linejoin:round}
.grid{stroke:var(--line);fill:none}.own{fill:var(--own)}.band0{fill:var(--band0)}.band1{fill:var(--band1)}
.tree{fill:none;stroke:var(--tree);stroke-width:1.6;stroke-linejoin:round}.pipe{fill:var(--pipe)}
.budget{fill:none;stroke:var(--budget);stroke-width:2}
.projected{fill:none;stroke:var(--projected);stroke-width:1.5;stroke-dasharray:5 4}
.break{fill:none;stroke:var(--soft);stroke-width:1.5;stroke-dasharray:1 4;stroke-linecap:round}
.peak{fill:var(--paper);stroke:var(--tree);stroke-width:2}.hover{fill:transparent}.hover:hover{fill:var(--ink);
fill-opacity:.07}
.stage0{fill:var(--stage0)}.stage1{fill:var(--stage1)}
.done{fill:var(--done)}.done.some{fill:var(--some)}.done.few{fill:var(--few)}.over{fill:var(--over)}
.died{fill:var(--died)}.raised{fill:var(--raised)}.idle{fill:var(--idle)}.paused{fill:url(#stripes)}
.stripe{stroke:var(--ink);stroke-width:1.6;stroke-opacity:.55;fill:none}
.mark{stroke-width:1.7;stroke-linejoin:round;stroke-linecap:round}.split{fill:none;stroke:var(--over)}
.mark.died{stroke:none;fill:var(--ink)}.recycled{fill:none;stroke:var(--tree)}.aside{fill:var(--ink)}
.safe{fill:var(--safe)}.diagonal{stroke:var(--soft);stroke-width:1.2;fill:none}
.point{fill:var(--tree);fill-opacity:.55}.point.over{fill:var(--over);fill-opacity:.9}
.legend{display:flex;flex-wrap:wrap;gap:2px 18px;margin-top:6px;font-size:13px;color:var(--soft)}
.legend span{display:inline-flex;align-items:center;gap:7px}
.legend i{width:14px;height:10px;border-radius:2px;flex:none}
.legend i.line{height:0;border-top:2px solid;border-radius:0}.legend i.dash{height:0;border-top:2px dashed;
border-radius:0}
table{border-collapse:collapse;width:100%;margin-top:12px;font-size:14px}
th{color:var(--soft);font-weight:500;font-size:13px;text-align:left;white-space:nowrap}
td,th{padding:7px 18px 7px 0;border-bottom:1px solid var(--line);vertical-align:top}
tr:last-child td{border-bottom:0}td:last-child,th:last-child{padding-right:0}
.right{text-align:right;white-space:nowrap}td:last-child,td.name{overflow-wrap:anywhere}td.name{font-weight:600;min-width:90px}
.two td,.two th{padding-right:10px}.two td.name{min-width:11ch}
.two td:last-child,.two th:last-child{padding-right:0}
.csv{float:right;font-size:13px;color:var(--soft);text-decoration:none;border:1px solid var(--line);
border-radius:6px;padding:1px 9px;margin-left:12px}.csv:hover{color:var(--ink);border-color:var(--soft)}
.note+.note,p+.lead,.legend+.soft{margin-top:8px}
.facts{margin:12px 0 0}.facts div{display:grid;grid-template-columns:96px minmax(0,1fr);padding:3px 0}
.facts dd{font-size:14px;font-weight:400;letter-spacing:0;overflow-wrap:anywhere}
code{font:13px/1.5 ui-monospace,"SF Mono","Liberation Mono",Menlo,Consolas,monospace;background:var(--pipe);
border-radius:5px;padding:2px 7px;overflow-wrap:anywhere}.whole{white-space:nowrap}
summary{cursor:pointer;color:var(--soft);font-size:13px}
pre{font:12px/1.45 ui-monospace,"SF Mono","Liberation Mono",Menlo,Consolas,monospace;background:var(--pipe);
border-radius:6px;padding:8px 10px;margin:6px 0 0;white-space:pre-wrap;overflow-wrap:anywhere}
.going{height:8px;border-radius:99px;background:var(--pipe);overflow:hidden;margin:10px 0 0}
.going i{display:block;height:100%;background:var(--tree)}
footer{margin-top:22px;color:var(--soft);font-size:13px}
@media print{.tall{max-height:none}body{background:#fff}
main{max-width:none;padding:0}section{border-color:#ddd}}
"""
