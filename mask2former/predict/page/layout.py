"""The page itself: what is where, and what calls what of a `Service`."""

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from ...errors import SHOWN
from ...results.regions import KINDS
from ...results.segments import only
from .launching import import_gradio
from .outputs import Thresholds
from .overlay import overlay
from .service import Service, View

_FORGET = 3600  # seconds after which images of a session that rests are deleted
_THRESHOLDS = {
    "panoptic": ("Panoptic: least class probability", "of a query that takes part"),
    "overlap": ("Panoptic: least visible part", "of its own mask"),
    "score": ("Instances: least score", ""),
    "semantic": ("Semantic: least share of the best class", "0 keeps every pixel"),
}


def build_page(service: Service) -> Any:
    """Return Gradio's Blocks over a service, for `serve`.

    Raises:
        MissingPackageError: Gradio is not installed, or too old.
    """
    gr = import_gradio()
    options = {"analytics_enabled": False, "delete_cache": (_FORGET, _FORGET), "fill_width": True}
    weights = Path(service.predictor.cfg.MODEL.WEIGHTS).name or "random weights"
    with gr.Blocks(title="Mask2Former", **options) as page:
        gr.Markdown(f"## Mask2Former\n`{weights}`")
        sliders = _sliders(gr, service.thresholds)
        if service.segmenter.can_segment or service.segmenter.names_masks:
            with gr.Tab("Images"):
                _ImageTab(gr, service, sliders)
        if service.takes_videos:
            with gr.Tab("Video"):
                _video_tab(gr, service, sliders)
    return page


def shown(call: Callable[..., Any]) -> Callable[..., Any]:
    """Have errors that users can cause come up on the page, or at the client, as their text."""
    gr = import_gradio()

    @wraps(call)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except SHOWN as error:
            raise gr.Error(str(error), print_exception=False) from error

    return wrapper


def _sliders(gr: Any, start: Thresholds) -> list[Any]:
    with gr.Row():
        return [
            gr.Slider(0, 1, getattr(start, name), step=0.01, label=label, info=info or None)
            for name, (label, info) in _THRESHOLDS.items()
        ]


def _video_tab(gr: Any, service: Service, sliders: Sequence[Any]) -> None:
    limits = service.limits
    info = f"Drop a video of {limits.frames} frames at most"
    with gr.Row():
        video = gr.File(label=info, file_types=["video"])
        drawn = gr.Video(label="Drawn", interactive=False)
    start = gr.Button("Segment the video", variant="primary")
    objects = gr.File(label="Objects of each frame, json", interactive=False)

    def segment_video(
        file: str | None, panoptic: float, overlap: float, score: float, semantic: float
    ) -> tuple[str, str]:
        """Draw the objects of a video, and return them as json, too."""
        if file is None:
            raise gr.Error("drop a video first", print_exception=False)
        paths = service.video(file, Thresholds(panoptic, overlap, score, semantic))
        return str(paths[0]), str(paths[1])

    outputs = [drawn, objects]
    start.click(shown(segment_video), [video, *sliders], outputs, api_name="segment_video")


class _ImageTab:
    """Images: which, what is drawn in them, results side by side, files."""

    def __init__(self, gr: Any, service: Service, sliders: Sequence[Any]):
        self.gr, self.service, self.sliders = gr, service, sliders
        self.view = gr.State(None, time_to_live=_FORGET)
        self.uploads = gr.State({})  # paths by the names that the user sees
        with gr.Row():
            self.files = gr.File(
                label="Drop photos", file_count="multiple", file_types=["image"], height=140
            )
            names = service.photos.names
            self.choice = gr.Dropdown(names, label="Photo", value=None, elem_id="photo")
        if service.segmenter.names_masks:
            self._add_prompts()
        self.kinds: dict[str, tuple[Any, Any]] = {}
        with gr.Row():
            for kind in KINDS:
                with gr.Column(min_width=240, visible=self._gives(kind)):
                    picture = gr.HTML(label=kind, elem_id=f"picture-{kind}")
                    which = gr.CheckboxGroup([], label=kind.capitalize(), elem_id=f"on-{kind}")
                    self.kinds[kind] = (picture, which)
        self.save = gr.Button("Make files: json, RLE, PNG", elem_id="save")
        self.saved = gr.File(label="Files", file_count="multiple", interactive=False)
        self._connect()
        self._add_api()

    def _gives(self, kind: str) -> bool:
        flag = {"panoptic": "panoptic_on", "instance": "instance_on", "semantic": "semantic_on"}
        return bool(getattr(self.service.predictor.model, flag[kind], False))

    def _add_prompts(self) -> None:
        """Add the photo itself, in which clicks make points and corners of boxes."""
        gr = self.gr
        self.prompts = gr.State({"points": [], "boxes": [], "corner": None})
        has_sam = getattr(self.service.predictor, "sam", None) is not None
        tools = ["point", "box"] if has_sam else ["box"]
        with gr.Row():
            self.photo = gr.Image(
                label="Click to draw", interactive=False, format="jpeg", elem_id="draw"
            )
            with gr.Column():
                self.tool = gr.Radio(
                    tools, value=tools[-1], label="A click is a point, or one corner of a box"
                )
                self.drawn = gr.JSON(label="Drawn, in pixels", elem_id="drawn")
                self.name = gr.Button("Name them", variant="primary", elem_id="name")
                self.clear = gr.Button("Draw anew")

    def _connect(self) -> None:
        private = {"api_visibility": "private"}
        results = [part for parts in self.kinds.values() for part in parts]
        whiches = [which for _, which in self.kinds.values()]
        pictures = [picture for picture, _ in self.kinds.values()]
        state = [self.view, *results]
        chosen = [self.choice, self.uploads, *self.sliders]
        offers = [self.uploads, self.choice]
        react: tuple[Any, ...] = (shown(self.choose), chosen, state)
        if self.service.segmenter.names_masks:
            react = self._connect_prompts(chosen, state, private)
        # Not by `choice.change`: another photo may have the same name.
        dropped = self.files.change(self.offer, [self.files, self.uploads], offers, **private)
        dropped.success(*react, **private)
        self.choice.input(*react, **private)
        for slider in self.sliders:
            slider.release(shown(self.merge), [self.view, *self.sliders], state, **private)
        for which in whiches:
            which.input(shown(self.redraw), [self.view, *whiches], pictures, **private)
        self.save.click(shown(self.make_files), [self.view, *whiches], self.saved, **private)

    def _connect_prompts(
        self, chosen: list[Any], state: list[Any], private: dict
    ) -> tuple[Any, list[Any], list[Any]]:
        """Connect drawing; return what is to happen when a photo is chosen, as events take it."""
        gr = self.gr
        drawing = [self.prompts, self.drawn]

        def click(prompts: dict, tool: str, event: gr.SelectData) -> tuple[dict, dict]:
            return add_click(prompts, tool, *event.index)

        def start(choice: str | None, uploads: dict) -> tuple[Any, dict, dict]:
            image = (
                None
                if choice is None
                else self.service.limits.read_photo(self.path(choice, uploads))
            )
            return (image, *_no_prompts())

        self.photo.select(click, [self.prompts, self.tool], drawing, **private)
        self.clear.click(_no_prompts, None, drawing, **private)
        self.name.click(shown(self.name_drawn), [*chosen, self.prompts], state, **private)
        return shown(start), [self.choice, self.uploads], [self.photo, *drawing]

    def path(self, choice: str, uploads: dict[str, str]) -> Path:
        """Return the file that a name stands for: an upload of this session, or a photo."""
        return Path(uploads[choice]) if choice in uploads else self.service.photos[choice]

    def offer(self, files: list[str] | None, before: dict[str, str]) -> tuple[dict[str, str], Any]:
        """Offer files that were dropped, and choose the first that is new."""
        uploads: dict[str, str] = {}
        for file in files or []:
            name, number = Path(file).name, 1
            while name in uploads:
                number += 1
                name = f"{Path(file).stem} ({number}){Path(file).suffix}"
            uploads[name] = file
        names = [*uploads, *self.service.photos.names]
        new = [name for name, file in uploads.items() if file not in before.values()]
        return uploads, self.gr.Dropdown(names, value=next(iter(new or uploads), None))

    def choose(self, choice: str | None, uploads: dict[str, str], *numbers: float) -> list[Any]:
        """Run the network on a photo and show what comes."""
        if choice is None:
            return self.render(None)
        thresholds = Thresholds(*numbers)
        return self.render(self.service.segment(self.path(choice, uploads), thresholds))

    def name_drawn(self, choice: str | None, uploads: dict, *rest: Any) -> list[Any]:
        """Name what was drawn in a photo and show it."""
        *numbers, prompts = rest
        if choice is None:
            raise self.gr.Error("choose a photo first", print_exception=False)
        path, drawn = self.path(choice, uploads), (prompts["points"], prompts["boxes"])
        return self.render(self.service.name_masks(path, *drawn, Thresholds(*numbers)))

    def merge(self, view: View | None, *numbers: float) -> list[Any]:
        """Show the same photo with other thresholds."""
        return self.render(view and self.service.merge(view, Thresholds(*numbers)))

    def render(self, view: View | None) -> list[Any]:
        """Return the state, and the picture and list of each kind."""
        parts: list[Any] = [view]
        for kind in self.kinds:
            segments = view.segments.get(kind, []) if view else []
            choices = [(segment.title, segment.number) for segment in segments]
            which = self.gr.CheckboxGroup(choices, value=[number for _, number in choices])
            parts += [overlay(view.image, segments) if view else "", which]
        return parts

    def redraw(self, view: View | None, *on: list[int]) -> list[str]:
        """Return the pictures with the segments that are on."""
        if view is None:
            return [""] * len(on)
        segments = only(view.segments, dict(zip(self.kinds, on)))
        return [overlay(view.image, segments.get(kind, [])) for kind in self.kinds]

    def make_files(self, view: View | None, *on: list[int]) -> list[str]:
        """Write files of what is shown."""
        if view is None:
            raise self.gr.Error("choose a photo first", print_exception=False)
        return [str(path) for path in self.service.downloads(view, dict(zip(self.kinds, on)))]

    def _add_api(self) -> None:
        """Add what programs call; it keeps nothing."""
        gr, service = self.gr, self.service
        photo = gr.File(visible=False)
        if service.segmenter.names_masks:
            points, boxes = gr.JSON(visible=False), gr.JSON(visible=False)
            name, inputs = "name_masks", [photo, points, boxes]
        else:
            name, inputs = "segment", [photo]

        def call(file: str | None, *rest: Any) -> dict[str, Any]:
            """Return the segments of a photo by kind: id, category, score, area, bbox, RLE."""
            if file is None:
                raise gr.Error("expected a photo", print_exception=False)
            prompts, numbers = [value or [] for value in rest[:-4]], rest[-4:]
            run = service.name_masks if prompts else service.segment
            return service.json(run(file, *prompts, Thresholds(*numbers)))

        result = gr.JSON(visible=False)
        gr.Button(visible=False).click(shown(call), [*inputs, *self.sliders], result, api_name=name)


def add_click(prompts: dict[str, Any], tool: str, x: float, y: float) -> tuple[dict, dict]:
    """Return the state with a click more, and what is shown of it; two clicks make a box."""
    prompts = {**prompts, "points": [*prompts["points"]], "boxes": [*prompts["boxes"]]}
    corner = prompts.pop("corner")
    prompts["corner"] = None
    if tool == "point":
        prompts["points"].append([x, y])
    elif corner is None:
        prompts["corner"] = [x, y]
    else:
        (x0, y0), (x1, y1) = corner, (x, y)
        prompts["boxes"].append([min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)])
    return prompts, prompts


def _no_prompts() -> tuple[dict, dict]:
    prompts: dict[str, Any] = {"points": [], "boxes": [], "corner": None}
    return prompts, prompts
