package peers;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** One user's clock, class and panes, as tests/bench/peers/job.py defines them; stored as bytes. */
public final class UserState {
    private static final long PANE_MS = 300_000;
    private static final int HOUR = 12;
    private static final int DAY = 288;
    private static final long[] EDGES = {1, 5_000, 20_000};
    private static final int HEAD_BYTES = 9;
    private static final int PANE_BYTES = 16;

    private long clock;
    private int spendClass;
    private int size;
    private int[] panes = new int[4];
    private int[] events = new int[4];
    private long[] spends = new long[4];

    /** A user of whom there is no event yet. */
    public UserState() {}

    /** From the bytes that toBytes gave. */
    public UserState(byte[] stored) {
        ByteBuffer buffer = ByteBuffer.wrap(stored);
        clock = buffer.getLong();
        spendClass = buffer.get();
        size = (stored.length - HEAD_BYTES) / PANE_BYTES;
        panes = new int[size + 1];
        events = new int[size + 1];
        spends = new long[size + 1];
        for (int i = 0; i < size; i++) {
            panes[i] = buffer.getInt();
            events[i] = buffer.getInt();
            spends[i] = buffer.getLong();
        }
    }

    /** Takes an event; the record that it gives, or null. */
    public byte[] apply(String user, Event event) {
        clock = Math.max(clock, event.time());
        int pane = (int) (clock / PANE_MS);
        if (size == 0 || panes[size - 1] != pane) {
            open(pane);
        }
        events[size - 1] += 1;
        spends[size - 1] += event.spend();
        long hourEvents = 0;
        long hourSpend = 0;
        for (int i = size - 1; i >= 0 && panes[i] > pane - HOUR; i--) {
            hourEvents += events[i];
            hourSpend += spends[i];
        }
        int before = spendClass;
        spendClass = classOf(hourSpend);
        return spendClass == before ? null : record(user, before, hourEvents, hourSpend);
    }

    public byte[] toBytes() {
        ByteBuffer buffer = ByteBuffer.allocate(HEAD_BYTES + size * PANE_BYTES);
        buffer.putLong(clock).put((byte) spendClass);
        for (int i = 0; i < size; i++) {
            buffer.putInt(panes[i]).putInt(events[i]).putLong(spends[i]);
        }
        return buffer.array();
    }

    private void open(int pane) {
        int gone = 0;
        while (gone < size && panes[gone] <= pane - DAY) {
            gone++;
        }
        size -= gone;
        System.arraycopy(panes, gone, panes, 0, size);
        System.arraycopy(events, gone, events, 0, size);
        System.arraycopy(spends, gone, spends, 0, size);
        if (size == panes.length) {
            panes = Arrays.copyOf(panes, size * 2);
            events = Arrays.copyOf(events, size * 2);
            spends = Arrays.copyOf(spends, size * 2);
        }
        panes[size] = pane;
        events[size] = 0;
        spends[size] = 0;
        size++;
    }

    private static int classOf(long spend) {
        int reached = 0;
        while (reached < EDGES.length && spend >= EDGES[reached]) {
            reached++;
        }
        return reached;
    }

    private byte[] record(String user, int before, long hourEvents, long hourSpend) {
        long dayEvents = 0;
        long daySpend = 0;
        for (int i = 0; i < size; i++) {
            dayEvents += events[i];
            daySpend += spends[i];
        }
        String text = "{\"user\":\"" + user + "\",\"at\":" + clock + ",\"from\":" + before + ",\"to\":" + spendClass
                + ",\"events_1h\":" + hourEvents + ",\"spend_1h\":" + hourSpend
                + ",\"events_24h\":" + dayEvents + ",\"spend_24h\":" + daySpend + "}";
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
